/* Reads and writes sockets without waiting and without giving the interpreter away: see at_once.py.

   A call of the kernel that does not wait takes some microseconds. `os.read` and `os.write` let other threads have the
   interpreter meanwhile, and one that flushes then keeps it for as long as it may, many times a turn. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#define RECEIVE_BYTES (256 << 10)

/* Whoever uses it holds the interpreter's lock, and lets nobody else have it until the bytes are copied. */
static char received[RECEIVE_BYTES];

/* -1, which the kernel refuses, stands for a socket that is closed; any other is no descriptor, and an error. */
static int fd_of(PyObject *number) {
    long fd = PyLong_AsLong(number);
    if (fd >= -1 && fd <= INT_MAX)
        return (int)fd;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "that is no descriptor");
    return -1;
}

static PyObject *read_at_once(PyObject *module, PyObject *number) {
    int fd = fd_of(number);
    if (PyErr_Occurred())
        return NULL;
    ssize_t size;
    do
        size = recv(fd, received, RECEIVE_BYTES, MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    if (size >= 0)
        return PyBytes_FromStringAndSize(received, size);
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(NULL, 0);
}

static PyObject *write_at_once(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "write_at_once takes a descriptor and bytes");
        return NULL;
    }
    int fd = fd_of(args[0]);
    if (PyErr_Occurred())
        return NULL;
    ssize_t sent;
    do
        sent = send(fd, PyBytes_AS_STRING(args[1]), PyBytes_GET_SIZE(args[1]), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return PyLong_FromSsize_t(sent < 0 ? 0 : sent);
}

static PyMethodDef functions[] = {
    {"read_at_once", read_at_once, METH_O, NULL},
    {"write_at_once", (PyCFunction)(void (*)(void))write_at_once, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shardraft.transport.socket_calls",
    .m_size = 0,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_socket_calls(void) { return PyModuleDef_Init(&module); }
