/* Messages whose fields are byte strings, and lists of these: see plain.py for what each function means.

   A sequence is read where no object is made that could wake the collector, so no Python code runs, and nobody changes
   it, meanwhile. All numbers are little-endian, and so is every machine that this works on (see `module_exec`). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(Py_ssize_t) == 8, "offsets of messages are added without a look at what a number can hold");

#define IN_BYTES 2
#define OF_POINTERS 6
#define LIST 1
#define ITEMS_MAX 65535
#define TARGET_MAX ((1 << 29) - 1)

static int are_arguments(const char *name, Py_ssize_t count, Py_ssize_t expected) {
    if (count == expected)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, expected, count);
    return 0;
}

/* The bytes of an item, which need not be `bytes`; -1 with an exception when it has none. Of other types none is taken
   that might say so in Python. */
static Py_ssize_t size_of(PyObject *item) {
    if (PyBytes_CheckExact(item))
        return PyBytes_GET_SIZE(item);
    if (!PyByteArray_CheckExact(item) && !PyMemoryView_Check(item)) {
        PyErr_Format(PyExc_TypeError, "an item is bytes, not %s", Py_TYPE(item)->tp_name);
        return -1;
    }
    Py_buffer data;
    if (PyObject_GetBuffer(item, &data, PyBUF_SIMPLE) < 0)
        return -1;
    Py_ssize_t size = data.len;
    PyBuffer_Release(&data);
    return size;
}

/* How many words a list takes, -1 with an exception when no pointer can say that. */
static Py_ssize_t words_of(PyObject **items, Py_ssize_t count) {
    Py_ssize_t words = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_of(items[i]);
        if (size < 0)
            return -1;
        if (size > TARGET_MAX || words > TARGET_MAX) {
            PyErr_SetString(PyExc_OverflowError, "a list of byte strings that is too large for a message");
            return -1;
        }
        words += (size + 7) / 8;
    }
    return words;
}

static int copy_item(PyObject *item, char *into, Py_ssize_t size) {
    if (PyBytes_CheckExact(item)) {
        memcpy(into, PyBytes_AS_STRING(item), (size_t)size);
        return 0;
    }
    Py_buffer data;
    if (PyObject_GetBuffer(item, &data, PyBUF_SIMPLE) < 0)
        return -1;
    memcpy(into, data.buf, (size_t)size);
    PyBuffer_Release(&data);
    return 0;
}

static int write_items(PyObject **items, Py_ssize_t count, char *begin) {
    Py_ssize_t word = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_of(items[i]);
        if (size < 0)
            return -1;
        char *into = begin + 8 * word;
        Py_ssize_t words = (size + 7) / 8;
        uint64_t pointer = (uint64_t)size << 35 | (uint64_t)IN_BYTES << 32 | (uint64_t)(word - i - 1) << 2 | LIST;
        memcpy(begin + 8 * i, &pointer, 8);
        if (words > 0)
            memset(into + 8 * (words - 1), 0, 8);
        if (copy_item(items[i], into, size) < 0)
            return -1;
        word += words;
    }
    return 0;
}

static PyObject *octets_pack_items(PyObject *module, PyObject *given) {
    PyObject *sequence = PySequence_Fast(given, "pack_items takes a sequence");
    if (sequence == NULL)
        return NULL;
    PyObject **items = PySequence_Fast_ITEMS(sequence);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    Py_ssize_t words = words_of(items, count);
    PyObject *packed = words < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 8 * words);
    if (packed != NULL && write_items(items, count, PyBytes_AS_STRING(packed)) < 0)
        Py_CLEAR(packed);
    Py_DECREF(sequence);
    return packed;
}

/* Appends the items of the list whose pointers begin at a byte, if all is as it must be; where it ends, -1 when it is
   not, -2 with an exception. */
static Py_ssize_t append_items(const char *message, Py_ssize_t size, Py_ssize_t at, Py_ssize_t count, PyObject *items) {
    if (at < 0 || count < 0 || count > ITEMS_MAX || at > size || 8 * count > size - at)
        return -1;
    Py_ssize_t begin = at + 8 * count;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t pointer;
        Py_ssize_t place = at + 8 * i;
        memcpy(&pointer, message + place, 8);
        Py_ssize_t item_bytes = (Py_ssize_t)(pointer >> 35);
        uint64_t expected = (uint64_t)IN_BYTES << 32 | (uint64_t)((begin - place) / 8 - 1) << 2 | LIST;
        if ((pointer & (((uint64_t)1 << 35) - 1)) != expected || begin > size || item_bytes > size - begin)
            return -1;
        PyObject *item = PyBytes_FromStringAndSize(message + begin, item_bytes);
        if (item == NULL)
            return -2;
        int error = PyList_Append(items, item);
        Py_DECREF(item);
        if (error < 0)
            return -2;
        begin += (item_bytes + 7) / 8 * 8;
    }
    return begin;
}

static PyObject *octets_unpack_items(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (!are_arguments("unpack_items", count, 4))
        return NULL;
    if (!PyBytes_Check(args[0]) || !PyList_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "unpack_items takes bytes, two numbers and a list");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    Py_ssize_t items = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    Py_ssize_t at = start < 0 || start > size ? -1 : 8 + 8 * start;
    Py_ssize_t end = append_items(PyBytes_AS_STRING(args[0]), size, at, items, args[3]);
    if (end == -2)
        return NULL;
    return PyLong_FromSsize_t(end < 0 ? -1 : end / 8 - 1);
}

/* Messages whose fields are byte strings. */

/* The field whose pointer lies at a byte, or NULL, with an exception or because it has another layout. `left` is how
   many bytes all fields may still take. */
static PyObject *take_column(const char *message, Py_ssize_t size, Py_ssize_t at, int kind, Py_ssize_t *left) {
    uint64_t pointer = 0;
    if (at >= 0)
        memcpy(&pointer, message + at, 8);
    if (pointer == 0)
        return kind == IN_BYTES ? PyBytes_FromStringAndSize(NULL, 0) : PyList_New(0);
    uint32_t target = (uint32_t)(pointer >> 32);
    Py_ssize_t between = (int32_t)(uint32_t)pointer >> 2;
    Py_ssize_t begin = at + 8 + 8 * between;
    Py_ssize_t count = target >> 3;
    if ((pointer & 3) != LIST || (int)(target & 7) != kind || begin < 16)
        return NULL;
    if (kind == IN_BYTES) {
        if (begin > size || count > size - begin || count > *left)
            return NULL;
        *left -= count;
        return PyBytes_FromStringAndSize(message + begin, count);
    }
    PyObject *items = PyList_New(0);
    if (items == NULL || count == 0)
        return items;
    Py_ssize_t end = append_items(message, size, begin, count, items);
    if (end < 0 || end - begin > *left) {
        Py_DECREF(items);
        return NULL;
    }
    *left -= end - begin;
    return items;
}

static PyObject *octets_take_columns(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (!are_arguments("take_columns", count, 2))
        return NULL;
    if (!PyBytes_Check(args[0]) || !PyBytes_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "take_columns takes a message and kinds, both bytes");
        return NULL;
    }
    const char *message = PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    const char *kinds = PyBytes_AS_STRING(args[1]);
    Py_ssize_t places = PyBytes_GET_SIZE(args[1]);
    if (size < 16)
        Py_RETURN_NONE;
    uint32_t table[4];
    memcpy(table, message, 16);
    Py_ssize_t begin = 16 + 8 * (Py_ssize_t)(table[3] & 0xFFFF);
    Py_ssize_t end = begin + 8 * (Py_ssize_t)(table[3] >> 16);
    if (table[0] != 0 || table[2] != 0 || size != 8 + 8 * (Py_ssize_t)table[1] || end > size)
        Py_RETURN_NONE;
    PyObject *columns = PyTuple_New(places);
    if (columns == NULL)
        return NULL;
    Py_ssize_t left = size;
    for (Py_ssize_t place = 0; place < places; place++) {
        int kind = kinds[place];
        Py_ssize_t at = begin + 8 * place < end ? begin + 8 * place : -1;
        int is_known = kind == IN_BYTES || kind == OF_POINTERS;
        PyObject *column = is_known ? take_column(message, size, at, kind, &left) : Py_NewRef(Py_None);
        if (column == NULL) {
            Py_DECREF(columns);
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
        PyTuple_SET_ITEM(columns, place, column);
    }
    return columns;
}

static PyMethodDef functions[] = {
    {"pack_items", octets_pack_items, METH_O, NULL},
    {"unpack_items", (PyCFunction)(void (*)(void))octets_unpack_items, METH_FASTCALL, NULL},
    {"take_columns", (PyCFunction)(void (*)(void))octets_take_columns, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    const uint32_t one = 1;
    if (*(const unsigned char *)&one != 1) {
        PyErr_SetString(PyExc_ModuleNotFoundError, "this machine is not little-endian");
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shardraft.octets.messages",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_messages(void) { return PyModuleDef_Init(&module); }
