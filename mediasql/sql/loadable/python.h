/* Python's stable interface, found in the process at run time: nothing of Python is needed to build or to link this.
 *
 * PYTHON(X) lists the functions as X(result, name, parameters), TYPES(X) and EXCEPTIONS(X) what they are called with.
 */
#ifndef MEDIASQL_PYTHON_H
#define MEDIASQL_PYTHON_H

#include <stddef.h>
#include <wchar.h>

typedef struct _object PyObject;

#define PYTHON(X)                                                                                                      \
  X(int, Py_IsInitialized, (void))                                                                                     \
  X(const char *, Py_GetVersion, (void))                                                                               \
  X(void, Py_InitializeEx, (int))                                                                                      \
  X(wchar_t *, Py_DecodeLocale, (const char *, size_t *))                                                              \
  X(int, PyGILState_Ensure, (void))                                                                                    \
  X(int, PyGILState_Check, (void))                                                                                     \
  X(void, PyGILState_Release, (int))                                                                                   \
  X(void *, PyEval_SaveThread, (void))                                                                                 \
  X(void, PyOS_BeforeFork, (void))                                                                                     \
  X(void, PyOS_AfterFork_Parent, (void))                                                                               \
  X(void, PyOS_AfterFork_Child, (void))                                                                                \
  X(void, Py_IncRef, (PyObject *))                                                                                     \
  X(void, Py_DecRef, (PyObject *))                                                                                     \
  X(PyObject *, PyImport_ImportModule, (const char *))                                                                 \
  X(PyObject *, PySys_GetObject, (const char *))                                                                       \
  X(PyObject *, PyObject_GetAttrString, (PyObject *, const char *))                                                    \
  X(PyObject *, PyObject_CallObject, (PyObject *, PyObject *))                                                         \
  X(PyObject *, PyObject_CallFunction, (PyObject *, const char *, ...))                                                \
  X(PyObject *, PyObject_CallMethod, (PyObject *, const char *, const char *, ...))                                    \
  X(PyObject *, PyObject_Str, (PyObject *))                                                                            \
  X(PyObject *, PyObject_Type, (PyObject *))                                                                           \
  X(int, PyObject_IsInstance, (PyObject *, PyObject *))                                                                \
  X(int, PyObject_IsTrue, (PyObject *))                                                                                \
  X(PyObject *, Py_BuildValue, (const char *, ...))                                                                    \
  X(int, PyArg_ParseTuple, (PyObject *, const char *, ...))                                                            \
  X(PyObject *, PyTuple_New, (ptrdiff_t))                                                                              \
  X(int, PyTuple_SetItem, (PyObject *, ptrdiff_t, PyObject *))                                                         \
  X(PyObject *, PySet_New, (PyObject *))                                                                               \
  X(int, PySet_Add, (PyObject *, PyObject *))                                                                          \
  X(ptrdiff_t, PyList_Size, (PyObject *))                                                                              \
  X(PyObject *, PyList_GetItem, (PyObject *, ptrdiff_t))                                                               \
  X(int, PyList_Insert, (PyObject *, ptrdiff_t, PyObject *))                                                           \
  X(PyObject *, PyLong_FromLongLong, (long long))                                                                      \
  X(long long, PyLong_AsLongLong, (PyObject *))                                                                        \
  X(PyObject *, PyFloat_FromDouble, (double))                                                                          \
  X(double, PyFloat_AsDouble, (PyObject *))                                                                            \
  X(PyObject *, PyUnicode_DecodeUTF8, (const char *, ptrdiff_t, const char *))                                         \
  X(const char *, PyUnicode_AsUTF8AndSize, (PyObject *, ptrdiff_t *))                                                  \
  X(PyObject *, PyUnicode_DecodeFSDefault, (const char *))                                                             \
  X(PyObject *, PyBytes_FromStringAndSize, (const char *, ptrdiff_t))                                                  \
  X(int, PyBytes_AsStringAndSize, (PyObject *, char **, ptrdiff_t *))                                                  \
  X(PyObject *, PyErr_Occurred, (void))                                                                                \
  X(int, PyErr_ExceptionMatches, (PyObject *))                                                                         \
  X(unsigned long, PyThread_get_thread_ident, (void))                                                                  \
  X(int, PyThreadState_SetAsyncExc, (unsigned long, PyObject *))                                                       \
  X(void, PyErr_Clear, (void))                                                                                         \
  X(void, PyErr_Fetch, (PyObject **, PyObject **, PyObject **))                                                        \
  X(void, PyErr_NormalizeException, (PyObject **, PyObject **, PyObject **))

#define TYPES(X) X(PyLong_Type) X(PyFloat_Type) X(PyUnicode_Type) X(PyBytes_Type)
#define EXCEPTIONS(X) X(PyExc_KeyboardInterrupt)

/* Functions that only some versions have. */
#define SET_PROGRAM "Py_SetProgramName"   /* until 3.14 */
#define CONFIG_CREATE "PyInitConfig_Create" /* from 3.14 on, with those beside it */

struct python {
#define X(result, name, parameters) result(*name) parameters;
  PYTHON(X)
#undef X
#define X(name) PyObject *name;
  TYPES(X)
#undef X
#define X(name) PyObject **name;
  EXCEPTIONS(X)
#undef X
  PyObject *None;
};

extern struct python py;

/* Finds or starts Python in this process. On failure, `message` (of `size` bytes) tells why. */
int python_ready(char *message, size_t size);

/* Whether Python can be called; not while the process ends. */
int python_alive(void);

/* The folder that the package `mediasql` of this library lies in, if this library started Python; or "". */
const char *python_root(void);

#endif
