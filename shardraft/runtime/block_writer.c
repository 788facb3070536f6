/* Writes blocks on threads of its own that never need the interpreter: see block_writer.pyi for what it promises.

   A block is handed over whole, and only its end comes back, through a file descriptor that the loop polls anyway. So
   a synced write costs the loop no wait for the interpreter's lock, and the writer none either (decision 0029).

   Everything under `mutex` belongs to nobody else. `parts` keeps the bytes of a write alive and is touched only by
   threads that hold the interpreter's lock: `write` and `take_finished`. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define WRITES_MAX 16
#define PARTS_MAX 4

typedef struct {
    int fd;
    off_t at;
    int part_count;
    struct iovec places[PARTS_MAX];
    PyObject *parts;
    int is_finished;
    int error;
} Write;

/* What the threads share with the object. It outlives the object as long as a thread hangs in a write. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t ended;
    Write writes[WRITES_MAX];
    /* Counts of all writes ever: handed over, begun by a thread, and taken when they were finished. */
    uint64_t given;
    uint64_t begun;
    uint64_t taken;
    int threads;
    int is_stopping;
    int event;
} Shared;

typedef struct {
    PyObject_HEAD
    Shared *shared;
} BlockWriter;

static int write_all(Write *write) {
    struct iovec *place = write->places;
    int count = write->part_count;
    off_t at = write->at;
    while (count > 0) {
        ssize_t written = pwritev(write->fd, place, count, at);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (written == 0)
            return EIO;
        at += written;
        while (count > 0 && (size_t)written >= place->iov_len) {
            written -= place->iov_len;
            place++;
            count--;
        }
        if (count > 0) {
            place->iov_base = (char *)place->iov_base + written;
            place->iov_len -= written;
        }
    }
    return 0;
}

static void *run(void *argument) {
    Shared *shared = argument;
    pthread_setname_np(pthread_self(), "shardraft-log");
    pthread_mutex_lock(&shared->mutex);
    for (;;) {
        while (shared->begun == shared->given && !shared->is_stopping)
            pthread_cond_wait(&shared->work, &shared->mutex);
        if (shared->begun == shared->given)
            break;
        uint64_t number = shared->begun++;
        Write *write = &shared->writes[number % WRITES_MAX];
        pthread_mutex_unlock(&shared->mutex);
        int error = write_all(write);
        pthread_mutex_lock(&shared->mutex);
        write->error = error;
        write->is_finished = 1;
        /* One that is finished before an older one is taken along when that one is. */
        if (number == shared->taken && eventfd_write(shared->event, 1) != 0)
            abort();
    }
    shared->threads--;
    pthread_cond_broadcast(&shared->ended);
    pthread_mutex_unlock(&shared->mutex);
    return NULL;
}

static int start_threads(Shared *shared, int threads) {
    /* Signals are for the interpreter's main thread, whose wait they are to end. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (shared->threads < threads && error == 0) {
        pthread_t thread;
        shared->threads++;
        error = pthread_create(&thread, NULL, run, shared);
        if (error == 0)
            pthread_detach(thread);
        else
            shared->threads--;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"threads", NULL};
    int threads;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i", names, &threads))
        return NULL;
    if (threads < 1 || threads > WRITES_MAX)
        return PyErr_Format(PyExc_ValueError, "threads are 1 to %d, not %d", WRITES_MAX, threads);
    BlockWriter *self = (BlockWriter *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Shared *shared = self->shared = PyMem_RawCalloc(1, sizeof(Shared));
    if (shared == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&shared->mutex, NULL);
    pthread_cond_init(&shared->work, NULL);
    pthread_cond_init(&shared->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    shared->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int error = shared->event < 0 ? errno : start_threads(shared, threads);
    if (error != 0) {
        Py_DECREF(self);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)self;
}

static PyObject *writer_fileno(BlockWriter *self, PyObject *unused) {
    return PyLong_FromLong(self->shared->event);
}

static int fill(Write *write, PyObject *parts) {
    Py_ssize_t count = PyTuple_GET_SIZE(parts);
    if (count > PARTS_MAX) {
        PyErr_Format(PyExc_ValueError, "a block has at most %d parts, not %zd", PARTS_MAX, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);
        if (!PyBytes_Check(part)) {
            PyErr_SetString(PyExc_TypeError, "the parts of a block are bytes");
            return -1;
        }
        write->places[i].iov_base = PyBytes_AS_STRING(part);
        write->places[i].iov_len = PyBytes_GET_SIZE(part);
    }
    write->part_count = (int)count;
    return 0;
}

static PyObject *writer_write(BlockWriter *self, PyObject *args) {
    int fd;
    PyObject *parts;
    long long at;
    if (!PyArg_ParseTuple(args, "iO!L", &fd, &PyTuple_Type, &parts, &at))
        return NULL;
    Shared *shared = self->shared;
    pthread_mutex_lock(&shared->mutex);
    int is_full = shared->given - shared->taken == WRITES_MAX;
    int is_stopping = shared->is_stopping;
    pthread_mutex_unlock(&shared->mutex);
    if (is_full || is_stopping) {
        PyErr_SetString(PyExc_RuntimeError, is_full ? "too many writes are under way" : "the writer was stopped");
        return NULL;
    }
    /* No thread looks at it before `given` is raised. */
    Write *write = &shared->writes[shared->given % WRITES_MAX];
    if (fill(write, parts) < 0)
        return NULL;
    write->fd = fd;
    write->at = at;
    write->is_finished = 0;
    write->error = 0;
    write->parts = Py_NewRef(parts);
    pthread_mutex_lock(&shared->mutex);
    shared->given++;
    pthread_mutex_unlock(&shared->mutex);
    pthread_cond_signal(&shared->work);
    Py_RETURN_NONE;
}

static PyObject *writer_take_finished(BlockWriter *self, PyObject *unused) {
    Shared *shared = self->shared;
    PyObject *parts[WRITES_MAX];
    int errors[WRITES_MAX];
    int count = 0;
    eventfd_t ignored;
    pthread_mutex_lock(&shared->mutex);
    while (shared->taken < shared->begun && shared->writes[shared->taken % WRITES_MAX].is_finished) {
        Write *write = &shared->writes[shared->taken % WRITES_MAX];
        parts[count] = write->parts;
        errors[count++] = write->error;
        write->parts = NULL;
        shared->taken++;
    }
    if (count > 0)
        (void)eventfd_read(shared->event, &ignored);
    pthread_mutex_unlock(&shared->mutex);
    PyObject *taken = PyList_New(count);
    for (int i = 0; i < count; i++) {
        Py_DECREF(parts[i]);
        PyObject *error = taken == NULL ? NULL : PyLong_FromLong(errors[i]);
        if (error == NULL)
            Py_CLEAR(taken);
        else
            PyList_SET_ITEM(taken, i, error);
    }
    return taken;
}

/* Whether all threads ended within so many seconds. Called with or without the interpreter's lock. */
static int end_threads(Shared *shared, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long long nanoseconds = until.tv_nsec + (long long)(seconds * 1e9);
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&shared->mutex);
    shared->is_stopping = 1;
    pthread_cond_broadcast(&shared->work);
    int error = 0;
    while (shared->threads > 0 && error == 0)
        error = pthread_cond_timedwait(&shared->ended, &shared->mutex, &until);
    int have_ended = shared->threads == 0;
    pthread_mutex_unlock(&shared->mutex);
    return have_ended;
}

static PyObject *writer_stop(BlockWriter *self, PyObject *args) {
    double seconds;
    if (!PyArg_ParseTuple(args, "d", &seconds))
        return NULL;
    if (!(seconds >= 0 && seconds <= 1e6))
        return PyErr_Format(PyExc_ValueError, "seconds to wait are 0 to a million");
    int have_ended;
    Py_BEGIN_ALLOW_THREADS
    have_ended = end_threads(self->shared, seconds);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(have_ended);
}

static void writer_dealloc(BlockWriter *self) {
    Shared *shared = self->shared;
    /* A thread that hangs in a write still reads what it writes, so that is never given back. */
    if (shared != NULL && end_threads(shared, 0.1)) {
        for (int i = 0; i < WRITES_MAX; i++)
            Py_XDECREF(shared->writes[i].parts);
        if (shared->event >= 0)
            close(shared->event);
        pthread_cond_destroy(&shared->work);
        pthread_cond_destroy(&shared->ended);
        pthread_mutex_destroy(&shared->mutex);
        PyMem_RawFree(shared);
    }
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef writer_methods[] = {
    {"fileno", (PyCFunction)writer_fileno, METH_NOARGS, NULL},
    {"write", (PyCFunction)writer_write, METH_VARARGS, NULL},
    {"take_finished", (PyCFunction)writer_take_finished, METH_NOARGS, NULL},
    {"stop", (PyCFunction)writer_stop, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "shardraft.runtime.block_writer.BlockWriter",
    .basicsize = sizeof(BlockWriter),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = writer_slots,
};

static int module_exec(PyObject *module) {
    PyObject *type = PyType_FromSpec(&writer_spec);
    if (type == NULL)
        return -1;
    int result = PyModule_AddObjectRef(module, "BlockWriter", type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shardraft.runtime.block_writer",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_block_writer(void) { return PyModuleDef_Init(&module); }
