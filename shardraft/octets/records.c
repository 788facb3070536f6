/* Checksums, records of values, and ranges of keys: see plain.py for what each function means.

   Columns are read where no object is made that could wake the collector, so no Python code runs, and nobody changes
   one, meanwhile. All numbers are little-endian, and so is every machine that this works on (see `module_exec`). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(Py_ssize_t) == 8, "offsets of messages are added without a look at what a number can hold");

#define RECORD_HEADER_BYTES 12
/* What takes longer, some microseconds, lets other threads have the interpreter. */
#define ALONE_BYTES_MAX (1 << 16)

static uint32_t read_u32(const unsigned char *from) {
    uint32_t number;
    memcpy(&number, from, sizeof number);
    return number;
}

/* CRC-32 with the polynomial of zlib, reflected. `crc` is the state between bytes: the complement of what is told. */

static uint32_t crc_table[8][256];

static void fill_crc_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        crc_table[0][byte] = crc;
    }
    for (int zeros = 1; zeros < 8; zeros++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = crc_table[zeros - 1][byte];
            crc_table[zeros][byte] = crc >> 8 ^ crc_table[0][crc & 0xFF];
        }
}

static uint32_t crc_by_table(uint32_t crc, const unsigned char *data, size_t size) {
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = crc ^ read_u32(data);
        uint32_t high = read_u32(data + 4);
        crc = crc_table[7][low & 0xFF] ^ crc_table[6][low >> 8 & 0xFF] ^ crc_table[5][low >> 16 & 0xFF] ^
              crc_table[4][low >> 24] ^ crc_table[3][high & 0xFF] ^ crc_table[2][high >> 8 & 0xFF] ^
              crc_table[1][high >> 16 & 0xFF] ^ crc_table[0][high >> 24];
    }
    for (; size > 0; data++, size--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *data) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Folding with carry-less multiplication (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using
   PCLMULQDQ Instruction", Intel 2009): 16 bytes that lie `distance` ahead count as much as their product with
   x^distance modulo the polynomial. The constants are these powers for 64, 16 and 8 bytes, and those of Barrett's
   reduction, all reflected. */

static int can_fold;

__attribute__((target("pclmul,sse4.1"))) static __m128i fold(__m128i part, __m128i next, __m128i powers) {
    __m128i low = _mm_clmulepi64_si128(part, powers, 0x00);
    __m128i high = _mm_clmulepi64_si128(part, powers, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Of 16 bytes or a multiple of them. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t crc_by_folding(uint32_t crc, const unsigned char *data,
                                                                        size_t size) {
    const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_8 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i reduction = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i *next = (const __m128i *)data;
    const __m128i *end = (const __m128i *)(data + size);
    __m128i all = _mm_xor_si128(_mm_loadu_si128(next++), _mm_cvtsi32_si128((int)crc));
    if (end - next >= 3) {
        __m128i second = _mm_loadu_si128(next), third = _mm_loadu_si128(next + 1), fourth = _mm_loadu_si128(next + 2);
        for (next += 3; end - next >= 4; next += 4) {
            all = fold(all, _mm_loadu_si128(next), by_64);
            second = fold(second, _mm_loadu_si128(next + 1), by_64);
            third = fold(third, _mm_loadu_si128(next + 2), by_64);
            fourth = fold(fourth, _mm_loadu_si128(next + 3), by_64);
        }
        all = fold(fold(fold(all, second, by_16), third, by_16), fourth, by_16);
    }
    while (next < end)
        all = fold(all, _mm_loadu_si128(next++), by_16);
    const __m128i low_32s = _mm_set_epi32(0, -1, 0, -1);
    all = _mm_xor_si128(_mm_srli_si128(all, 8), _mm_clmulepi64_si128(all, by_16, 0x10));
    all = _mm_xor_si128(_mm_srli_si128(all, 4), _mm_clmulepi64_si128(_mm_and_si128(all, low_32s), by_8, 0x00));
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(all, low_32s), reduction, 0x10);
    quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, low_32s), reduction, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(all, quotient), 1);
}
#endif

static uint32_t crc_over(uint32_t crc, const void *bytes, size_t size) {
    const unsigned char *data = bytes;
#if defined(__x86_64__)
    if (can_fold && size >= 16) {
        size_t whole = size & ~(size_t)15;
        crc = crc_by_folding(crc, data, whole);
        data += whole;
        size -= whole;
    }
#endif
    return crc_by_table(crc, data, size);
}

/* The same; what is large is summed while other threads run, so nobody may change it. */
static uint32_t crc_over_any(uint32_t crc, const void *bytes, size_t size) {
    if (size < ALONE_BYTES_MAX)
        return crc_over(crc, bytes, size);
    Py_BEGIN_ALLOW_THREADS
    crc = crc_over(crc, bytes, size);
    Py_END_ALLOW_THREADS
    return crc;
}

static PyObject *octets_crc32(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "crc32 takes bytes, and perhaps a value to go on from and a place to start at");
        return NULL;
    }
    uint32_t crc = count < 2 ? 0 : (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    Py_ssize_t start = count < 3 ? 0 : PyLong_AsSsize_t(args[2]);
    Py_buffer data;
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    int is_inside = start >= 0 && start <= data.len;
    if (is_inside)
        crc = ~crc_over_any(~crc, (char *)data.buf + start, (size_t)(data.len - start));
    else
        PyErr_Format(PyExc_ValueError, "%zd bytes have none from %zd on", data.len, start);
    PyBuffer_Release(&data);
    return is_inside ? PyLong_FromUnsignedLong(crc) : NULL;
}

static PyObject *make_record(PyObject *key, uint64_t number, PyObject *value) {
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    PyObject *record = PyBytes_FromStringAndSize(NULL, RECORD_HEADER_BYTES + size);
    if (record == NULL)
        return NULL;
    char *into = PyBytes_AS_STRING(record);
    memcpy(into + 4, &number, 8);
    memcpy(into + RECORD_HEADER_BYTES, PyBytes_AS_STRING(value), (size_t)size);
    uint32_t crc = crc_over(0xFFFFFFFFu, PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
    crc = ~crc_over(crc, into + 4, 8 + (size_t)size);
    memcpy(into, &crc, 4);
    return record;
}

static int put_record(PyObject *held, PyObject *key, PyObject *value, uint64_t number, Py_ssize_t *more) {
    PyObject *record = make_record(key, number, value);
    if (record == NULL)
        return -1;
    /* Most keys are new, and to fetch a slot of a large table from memory is what this costs most: once, therefore. */
    PyObject *before = PyDict_SetDefault(held, key, record);
    int error = before == NULL ? -1 : 0;
    if (before == record) {
        more[0]++;
        more[1] += PyBytes_GET_SIZE(key);
    } else if (before != NULL && before != Py_None && !PyBytes_CheckExact(before)) {
        PyErr_SetString(PyExc_TypeError, "a record is bytes or None");
        error = -1;
    } else if (before != NULL) {
        if (before != Py_None)
            more[1] -= PyBytes_GET_SIZE(before);
        error = PyDict_SetItem(held, key, record);
    }
    more[1] += PyBytes_GET_SIZE(record);
    Py_DECREF(record);
    return error;
}

/* Whether both columns are of one length and of bytes alone: no subclass, which might compare itself in Python while
   they are read. */
static int are_columns(PyObject *keys, PyObject *values) {
    Py_ssize_t places = PySequence_Fast_GET_SIZE(keys);
    if (places != PySequence_Fast_GET_SIZE(values)) {
        PyErr_Format(PyExc_ValueError, "%zd keys have %zd values", places, PySequence_Fast_GET_SIZE(values));
        return 0;
    }
    for (Py_ssize_t place = 0; place < places; place++)
        if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(keys, place)) ||
            !PyBytes_CheckExact(PySequence_Fast_GET_ITEM(values, place))) {
            PyErr_SetString(PyExc_TypeError, "keys and values are bytes");
            return 0;
        }
    return 1;
}

static PyObject *octets_put_records(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 4 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "put_records takes a dictionary, two sequences and a number");
        return NULL;
    }
    uint64_t number = PyLong_AsUnsignedLongLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    PyObject *keys = PySequence_Fast(args[1], "keys are a sequence");
    PyObject *values = keys == NULL ? NULL : PySequence_Fast(args[2], "values are a sequence");
    Py_ssize_t more[2] = {0, 0};
    int error = values == NULL || !are_columns(keys, values);
    Py_ssize_t places = error ? 0 : PySequence_Fast_GET_SIZE(keys);
    if (places > 0 && number > UINT64_MAX - (uint64_t)(places - 1)) {
        PyErr_SetString(PyExc_OverflowError, "a number that no record can hold");
        error = 1;
    }
    for (Py_ssize_t place = 0; place < places && !error; place++) {
        PyObject *key = PySequence_Fast_GET_ITEM(keys, place);
        PyObject *value = PySequence_Fast_GET_ITEM(values, place);
        error = put_record(args[0], key, value, number + (uint64_t)place, more) < 0;
    }
    Py_XDECREF(keys);
    Py_XDECREF(values);
    return error ? NULL : Py_BuildValue("nn", more[0], more[1]);
}

static PyObject *octets_open_record(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "open_record takes the bytes of a key and of a record");
        return NULL;
    }
    const char *record = PyBytes_AS_STRING(args[1]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[1]);
    if (size < RECORD_HEADER_BYTES)
        Py_RETURN_NONE;
    uint32_t crc = crc_over(0xFFFFFFFFu, PyBytes_AS_STRING(args[0]), (size_t)PyBytes_GET_SIZE(args[0]));
    uint32_t told;
    uint64_t number;
    memcpy(&told, record, 4);
    memcpy(&number, record + 4, 8);
    if (told != (uint32_t)~crc_over_any(crc, record + 4, (size_t)size - 4))
        Py_RETURN_NONE;
    return Py_BuildValue("Ky#", (unsigned long long)number, record + RECORD_HEADER_BYTES, size - RECORD_HEADER_BYTES);
}

/* Keys and ranges. */

static int compare(PyObject *one, PyObject *other) {
    Py_ssize_t one_size = PyBytes_GET_SIZE(one), other_size = PyBytes_GET_SIZE(other);
    Py_ssize_t size = one_size < other_size ? one_size : other_size;
    int order = memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), (size_t)size);
    return order != 0 ? order : (one_size > other_size) - (one_size < other_size);
}

static PyObject *octets_are_within(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "are_within takes keys and the ends of a range");
        return NULL;
    }
    PyObject *start = args[1], *end = args[2];
    PyObject *keys = PySequence_Fast(args[0], "keys are a sequence");
    if (keys == NULL)
        return NULL;
    Py_ssize_t places = PySequence_Fast_GET_SIZE(keys);
    int are_bytes = PyBytes_Check(start) && PyBytes_Check(end);
    int is_within = 1;
    for (Py_ssize_t place = 0; place < places && are_bytes && is_within; place++) {
        PyObject *key = PySequence_Fast_GET_ITEM(keys, place);
        are_bytes = PyBytes_Check(key);
        if (are_bytes)
            is_within = compare(start, key) <= 0 && (PyBytes_GET_SIZE(end) == 0 || compare(key, end) < 0);
    }
    Py_DECREF(keys);
    if (!are_bytes) {
        PyErr_SetString(PyExc_TypeError, "keys are bytes, and so are the ends of a range");
        return NULL;
    }
    if (places == 0) {
        PyErr_SetString(PyExc_ValueError, "there is no key");
        return NULL;
    }
    return PyBool_FromLong(is_within);
}

static PyMethodDef functions[] = {
    {"crc32", (PyCFunction)(void (*)(void))octets_crc32, METH_FASTCALL, NULL},
    {"put_records", (PyCFunction)(void (*)(void))octets_put_records, METH_FASTCALL, NULL},
    {"open_record", (PyCFunction)(void (*)(void))octets_open_record, METH_FASTCALL, NULL},
    {"are_within", (PyCFunction)(void (*)(void))octets_are_within, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    const uint32_t one = 1;
    if (*(const unsigned char *)&one != 1) {
        PyErr_SetString(PyExc_ModuleNotFoundError, "this machine is not little-endian");
        return -1;
    }
    fill_crc_table();
#if defined(__x86_64__)
    can_fold = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shardraft.octets.records",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_records(void) { return PyModuleDef_Init(&module); }
