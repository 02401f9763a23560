/* Values and errors, from SQLite to Python and back. */
#define _GNU_SOURCE
#include "extension.h"

#include <stdlib.h>
#include <string.h>

/* The handler of the signal is not called a second time. */
static void interrupt_again(void) {
  py.PyThreadState_SetAsyncExc(py.PyThread_get_thread_ident(), *py.PyExc_KeyboardInterrupt);
}

void drop_error(void) {
  int interrupted = py.PyErr_Occurred() && py.PyErr_ExceptionMatches(*py.PyExc_KeyboardInterrupt);
  py.PyErr_Clear();
  if (interrupted) interrupt_again();
}

int raised(Host *host, char **text) {
  PyObject *type = NULL, *value = NULL, *trace = NULL, *told = NULL;
  const char *message = "mediasql cannot tell what went wrong";
  int code = ERROR, again = 0;
  py.PyErr_Fetch(&type, &value, &trace);
  py.PyErr_NormalizeException(&type, &value, &trace);
  if (value && explain) told = py.PyObject_CallFunction(explain, "LO", (long long)(intptr_t)host->database, value);
  if (!told || !py.PyArg_ParseTuple(told, "isp", &code, &message, &again)) drop_error();
  *text = strdup(message);
  if (told) py.Py_DecRef(told);
  if (trace) py.Py_DecRef(trace);
  if (value) py.Py_DecRef(value);
  if (type) py.Py_DecRef(type);
  if (again) interrupt_again();
  return code;
}

int fail(Context *context, Host *host) {
  char *text = NULL;
  int code = raised(host, &text);
  sqlite.result_error(context, text ? text : "out of memory", -1);
  if (code != ERROR) sqlite.result_error_code(context, code);
  free(text);
  return code;
}

PyObject *python_value(Value *value) {
  switch (sqlite.value_type(value)) {
  case INTEGER: return py.PyLong_FromLongLong(sqlite.value_int64(value));
  case FLOAT: return py.PyFloat_FromDouble(sqlite.value_double(value));
  case TEXT: {
    const char *text = sqlite.value_text(value); /* before its length, which is that of this encoding */
    return py.PyUnicode_DecodeUTF8(text ? text : "", sqlite.value_bytes(value), NULL);
  }
  case BLOB: {
    const char *bytes = sqlite.value_blob(value);
    return py.PyBytes_FromStringAndSize(bytes ? bytes : "", sqlite.value_bytes(value));
  }
  default: py.Py_IncRef(py.None); return py.None;
  }
}

PyObject *python_values(int count, Value **values) {
  PyObject *tuple = py.PyTuple_New(count);
  for (int at = 0; tuple && at < count; at++) {
    PyObject *value = python_value(values[at]);
    if (!value || py.PyTuple_SetItem(tuple, at, value)) {
      py.Py_DecRef(tuple);
      return NULL;
    }
  }
  return tuple;
}

PyObject *python_set(Value *list) {
  PyObject *set = py.PySet_New(NULL);
  Value *value = NULL;
  for (int code = sqlite.vtab_in_first(list, &value); set && code == OK && value; code = sqlite.vtab_in_next(list, &value)) {
    PyObject *item = python_value(value);
    int failed = !item || py.PySet_Add(set, item);
    if (item) py.Py_DecRef(item);
    if (failed) {
      py.Py_DecRef(set);
      return NULL;
    }
  }
  return set;
}

int give(Context *context, PyObject *value) {
  if (!value) return 0;
  if (value == py.None) {
    sqlite.result_null(context);
  } else if (py.PyObject_IsInstance(value, py.PyLong_Type)) {
    long long number = py.PyLong_AsLongLong(value);
    if (number == -1 && py.PyErr_Occurred()) return 0;
    sqlite.result_int64(context, number);
  } else if (py.PyObject_IsInstance(value, py.PyUnicode_Type)) {
    ptrdiff_t size = 0;
    const char *text = py.PyUnicode_AsUTF8AndSize(value, &size);
    if (!text) return 0;
    sqlite.result_text64(context, text, (uint64_t)size, TRANSIENT, UTF8);
  } else if (py.PyObject_IsInstance(value, py.PyFloat_Type)) {
    sqlite.result_double(context, py.PyFloat_AsDouble(value));
  } else {
    char *bytes = NULL;
    ptrdiff_t size = 0;
    if (py.PyBytes_AsStringAndSize(value, &bytes, &size)) return 0;
    sqlite.result_blob64(context, bytes, (uint64_t)size, TRANSIENT);
  }
  return 1;
}
