//! Methods as C functions, for what is called so often that wrappers would be a good part of it. One
//! of the files with `unsafe`.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyTypeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyTypeInfo, intern};

/// A method with arguments.
pub trait Taking {
    type Class: PyTypeInfo;

    fn call<'py>(
        this: &Bound<'py, Self::Class>,
        given: Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

/// A method without any.
pub trait TakingNothing {
    type Class: PyTypeInfo;

    fn call<'py>(this: &Bound<'py, Self::Class>) -> PyResult<Bound<'py, PyAny>>;
}

/// What stands for a method of `T` in its class.
pub struct Method<T> {
    name: &'static CStr,
    doc: &'static CStr,
    function: Function,
    class: PhantomData<fn(&T)>,
}

#[derive(Clone, Copy)]
enum Function {
    Taking(ffi::PyCFunctionFastWithKeywords),
    TakingNothing(ffi::PyCFunction),
}

impl<T: PyTypeInfo> Method<T> {
    pub const fn taking<M: Taking<Class = T>>(name: &'static CStr, doc: &'static CStr) -> Self {
        Self::new(name, doc, Function::Taking(taking::<M>))
    }

    pub const fn taking_nothing<M: TakingNothing<Class = T>>(
        name: &'static CStr,
        doc: &'static CStr,
    ) -> Self {
        Self::new(name, doc, Function::TakingNothing(taking_nothing::<M>))
    }

    const fn new(name: &'static CStr, doc: &'static CStr, function: Function) -> Self {
        Self {
            name,
            doc,
            function,
            class: PhantomData,
        }
    }
}

/// Puts methods on a class, unless it has its own of that name.
pub fn add_missing<T: PyTypeInfo>(
    class: &Bound<'_, PyType>,
    methods: &[Method<T>],
) -> PyResult<()> {
    let own = class.getattr(intern!(class.py(), "__dict__"))?;
    for method in methods {
        if !own.contains(method.name.to_string_lossy())? {
            add(class, method)?;
        }
    }
    Ok(())
}

/// Puts a method of `T` on it or on a subclass.
pub fn add<T: PyTypeInfo>(class: &Bound<'_, PyType>, method: &Method<T>) -> PyResult<()> {
    let py = class.py();
    if !class.is_subclass_of::<T>()? {
        return Err(PyTypeError::new_err("a method of another class"));
    }
    let (ml_meth, ml_flags) = definition(method.function);
    // The class refers to it for as long as the process lives.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: method.name.as_ptr(),
        ml_meth,
        ml_flags,
        ml_doc: method.doc.as_ptr(),
    }));
    // SAFETY: class and definition live on. It returns a new reference, or null with an exception.
    // CPython calls the function with objects of that class only, which are `T`'s.
    let descriptor = unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, descriptor)?
    };
    class.setattr(
        PyString::new(py, &method.name.to_string_lossy()),
        descriptor,
    )
}

fn definition(function: Function) -> (ffi::PyMethodDefPointer, c_int) {
    match function {
        Function::Taking(function) => {
            let pointer = ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: function,
            };
            (pointer, ffi::METH_FASTCALL | ffi::METH_KEYWORDS)
        }
        Function::TakingNothing(function) => {
            let pointer = ffi::PyMethodDefPointer {
                PyCFunction: function,
            };
            (pointer, ffi::METH_NOARGS)
        }
    }
}

/// # Safety
/// Called by Python, as it calls a `METH_FASTCALL | METH_KEYWORDS` function of the class.
unsafe extern "C" fn taking<M: Taking>(
    this: *mut PyObject,
    arguments: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls it as it promises for such functions.
    unsafe {
        enter::<M::Class>(this, |object| {
            M::call(object, Arguments::new(object.py(), arguments, count, names))
        })
    }
}

/// # Safety
/// Called by Python, as it calls a `METH_NOARGS` function of the class.
unsafe extern "C" fn taking_nothing<M: TakingNothing>(
    this: *mut PyObject,
    _: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls it as it promises for such functions.
    unsafe { enter::<M::Class>(this, M::call) }
}

/// Runs the body of a method, and has what it raises raised.
///
/// # Safety
/// Python calls a method of `T`, of this object.
#[inline]
unsafe fn enter<T: PyTypeInfo>(
    this: *mut PyObject,
    body: impl for<'py> FnOnce(&Bound<'py, T>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut PyObject {
    // SAFETY: Python calls, so the lock is held. Nothing in here attaches the thread, as PyO3 does
    // where it is called: that fails while the interpreter ends, when finalizers still get here.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: CPython has checked that it is a method of the object's class.
    let object = unsafe {
        Borrowed::from_ptr(py, this)
            .to_owned()
            .cast_into_unchecked::<T>()
    };
    // No panic may leave a C function.
    let result = catch_unwind(AssertUnwindSafe(|| body(&object)));
    let result = result.unwrap_or_else(|_| Err(PyRuntimeError::new_err("a native method failed")));
    match result {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

// SAFETY: as CPython declares them; each says where it is called what it is given.
unsafe extern "C" {
    fn PyMethod_Function(method: *mut PyObject) -> *mut PyObject;
    fn _PyObject_GetMethod(
        object: *mut PyObject,
        name: *mut PyObject,
        found: *mut *mut PyObject,
    ) -> c_int;
}

/// What an attribute is.
pub enum Attribute<'py> {
    /// A function of the object's class, which is not bound to the object yet.
    Unbound(Bound<'py, PyAny>),
    Value(Bound<'py, PyAny>),
}

/// Looks an attribute up; `None` if there is none.
pub fn look_up<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Attribute<'py>>> {
    let py = object.py();
    let mut found = std::ptr::null_mut();
    // SAFETY: the lock is held, and the objects live across the call. It sets `found` to a new
    // reference, or to null with an exception set, and returns whether that is unbound.
    let (unbound, found) = unsafe {
        let unbound = _PyObject_GetMethod(object.as_ptr(), name.as_ptr(), &raw mut found);
        (unbound, Bound::from_owned_ptr_or_err(py, found))
    };
    match found {
        Ok(found) if unbound == 1 => Ok(Some(Attribute::Unbound(found))),
        Ok(found) => Ok(Some(Attribute::Value(found))),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The function of a bound method; `None` if it is something else.
pub fn function_of<'py>(method: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = method.py();
    let class = METHOD.import(py, "types", "MethodType").ok()?;
    // SAFETY: it is a method, which has a function for as long as it lives.
    let function = || unsafe { Bound::from_borrowed_ptr(py, PyMethod_Function(method.as_ptr())) };
    method.get_type().is(class).then(function)
}

/// What such a function was given, borrowed from the caller.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    pub positional: &'a [Borrowed<'a, 'py, PyAny>],
    /// What is given by name, and the names.
    pub values: &'a [Borrowed<'a, 'py, PyAny>],
    pub names: Option<Borrowed<'a, 'py, PyTuple>>,
}

impl<'py> Arguments<'_, 'py> {
    /// # Safety
    /// They are those of a `METH_FASTCALL | METH_KEYWORDS` function, and live as long as its call.
    #[inline]
    unsafe fn new(
        py: Python<'py>,
        arguments: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> Self {
        // SAFETY: `count` objects, then as many as there are names. `Borrowed` is a pointer to an
        // object, and nothing else.
        unsafe {
            let names = Borrowed::from_ptr_or_opt(py, names);
            let names = names.map(|names| names.cast_unchecked::<PyTuple>());
            let first = arguments.cast::<Borrowed<'_, '_, PyAny>>();
            let count = count.unsigned_abs();
            let values = match names {
                Some(names) => slice(first.add(count), names.len()),
                None => &[],
            };
            Self {
                positional: slice(first, count),
                values,
                names,
            }
        }
    }
}

/// # Safety
/// As `std::slice::from_raw_parts`; but where there is nothing it may be null.
unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(first, count) }
}
