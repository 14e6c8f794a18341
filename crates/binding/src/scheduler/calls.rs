//! `call_soon()` and its kin, whose arguments come in without a tuple.
//!
//! For `*args` there would be a tuple in each call, which costs more than the rest of `call_soon()`.
//! So these are put on the class as C functions.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{Borrowed, intern};

use super::handle::{Arguments, Call};
use super::state::Scheduler;
use crate::context::Context;
use crate::methods::{self, Method, Taking, TakingNothing};

/// Which of these a subclass has replaced is asked by comparing them: they stay where they are.
const COMPARED: [Method<Scheduler>; 1] = [Method::taking::<CallAt>(
    c"call_at",
    c"call_at($self, when, callback, *args, context=None)\n--\n\n\
      Has the loop call a function at a time of its clock. As asyncio's.",
)];

const METHODS: [Method<Scheduler>; 4] = [
    Method::taking::<CallSoon>(
        c"call_soon",
        c"call_soon($self, callback, *args, context=None)\n--\n\n\
          Has the loop call a function in its next turn. As asyncio's.",
    ),
    Method::taking::<CallSoonThreadsafe>(
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
          Has the loop call a function, brought by any thread. As asyncio's.",
    ),
    Method::taking::<CallLater>(
        c"call_later",
        c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
          Has the loop call a function in so many seconds. As asyncio's.",
    ),
    Method::taking_nothing::<CreateFuture>(
        c"create_future",
        c"create_future($self, /)\n--\n\nA new `asyncio.Future` of this loop.",
    ),
];

/// Puts the functions of this file on the class.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Scheduler>();
    METHODS
        .iter()
        .chain(&COMPARED)
        .try_for_each(|method| methods::add(&class, method))
}

#[pymethods]
impl Scheduler {
    /// Has the class itself own the methods that are called most. The interpreter calls a C function
    /// at once only where the class that has it is the object's very own: an inherited one costs a
    /// third more.
    #[classmethod]
    fn _own_calls(class: &Bound<'_, PyType>) -> PyResult<()> {
        methods::add_missing(class, &METHODS)
    }
}

struct CallSoon;

impl Taking for CallSoon {
    type Class = Scheduler;

    fn call<'py>(
        scheduler: &Bound<'py, Scheduler>,
        given: methods::Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::new(given)?;
        let py = scheduler.py();
        let [callback] = given.named(py, "call_soon", ["callback"])?;
        scheduler.get().check_closed(py)?;
        if scheduler.get().is_debugged(py) {
            scheduler.call_method0(intern!(py, "_check_thread"))?;
            check_callback(scheduler, &callback, "call_soon")?;
        }
        let (call, context) = given.call::<1>(py, &callback)?;
        Scheduler::soon(scheduler, call, context).map(Bound::into_any)
    }
}

struct CallSoonThreadsafe;

impl Taking for CallSoonThreadsafe {
    type Class = Scheduler;

    fn call<'py>(
        scheduler: &Bound<'py, Scheduler>,
        given: methods::Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::new(given)?;
        let py = scheduler.py();
        let [callback] = given.named(py, "call_soon_threadsafe", ["callback"])?;
        scheduler.get().check_closed(py)?;
        if scheduler.get().is_debugged(py) {
            check_callback(scheduler, &callback, "call_soon_threadsafe")?;
        }
        let (call, context) = given.call::<1>(py, &callback)?;
        let handle = Scheduler::soon(scheduler, call, context)?;
        scheduler.get().wake(py)?;
        Ok(handle.into_any())
    }
}

struct CallLater;

impl Taking for CallLater {
    type Class = Scheduler;

    fn call<'py>(
        scheduler: &Bound<'py, Scheduler>,
        given: methods::Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::new(given)?;
        let py = scheduler.py();
        let [delay, callback] = given.named(py, "call_later", ["delay", "callback"])?;
        if delay.is_none() {
            return Err(PyTypeError::new_err("delay must not be None"));
        }
        let when = Scheduler::now(scheduler)? + delay.extract::<f64>()?;
        if scheduler.get().overridden.get(py).call_at {
            return given.pass_on(scheduler, when, &callback);
        }
        at(scheduler, when, &callback, &given)
    }
}

struct CallAt;

impl Taking for CallAt {
    type Class = Scheduler;

    fn call<'py>(
        scheduler: &Bound<'py, Scheduler>,
        given: methods::Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::new(given)?;
        let py = scheduler.py();
        let [when, callback] = given.named(py, "call_at", ["when", "callback"])?;
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        at(scheduler, when.extract()?, &callback, &given)
    }
}

struct CreateFuture;

impl TakingNothing for CreateFuture {
    type Class = Scheduler;

    fn call<'py>(scheduler: &Bound<'py, Scheduler>) -> PyResult<Bound<'py, PyAny>> {
        static FUTURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = FUTURE.import(scheduler.py(), "asyncio", "Future")?;
        class.call((), Some(&Scheduler::future_options(scheduler)?))
    }
}

fn at<'py>(
    scheduler: &Bound<'py, Scheduler>,
    when: f64,
    callback: &Bound<'py, PyAny>,
    given: &Given<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = scheduler.py();
    scheduler.get().check_closed(py)?;
    if scheduler.get().is_debugged(py) {
        scheduler.call_method0(intern!(py, "_check_thread"))?;
        check_callback(scheduler, callback, "call_at")?;
    }
    let (call, context) = given.call::<2>(py, callback)?;
    Scheduler::at(scheduler, when, call, context).map(Bound::into_any)
}

/// In debug mode.
fn check_callback(
    scheduler: &Bound<'_, Scheduler>,
    callback: &Bound<'_, PyAny>,
    method: &str,
) -> PyResult<()> {
    let py = scheduler.py();
    scheduler.call_method1(intern!(py, "_check_callback"), (callback, method))?;
    Ok(())
}

/// The arguments of one call, borrowed from the caller.
struct Given<'a, 'py> {
    positional: &'a [Borrowed<'a, 'py, PyAny>],
    /// What is given by name, and the names; none if there is a context only.
    values: &'a [Borrowed<'a, 'py, PyAny>],
    names: Option<Borrowed<'a, 'py, PyTuple>>,
    /// The context, where nothing else is given by name: so do asyncio's tasks and futures.
    context: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Given<'a, 'py> {
    #[inline]
    fn new(arguments: methods::Arguments<'a, 'py>) -> PyResult<Self> {
        let methods::Arguments {
            positional,
            values,
            names,
        } = arguments;
        let mut given = Self {
            positional,
            values,
            names,
            context: None,
        };
        if let Some(names) = names
            && let [context] = values
            && let Ok(name) = names.get_borrowed_item(0)?.cast::<PyString>()
            && is_context(&name)
        {
            given.names = None;
            given.context = Some(*context);
        }
        Ok(given)
    }

    /// The arguments before `*args`, by position or by name.
    fn named<const N: usize>(
        &self,
        py: Python<'py>,
        function: &str,
        names: [&str; N],
    ) -> PyResult<[Bound<'py, PyAny>; N]> {
        if self.names.is_none()
            && let Some(first) = self.positional.first_chunk::<N>()
        {
            return Ok(std::array::from_fn(|index| first[index].to_owned()));
        }
        let mut found: [Option<Bound<'py, PyAny>>; N] =
            std::array::from_fn(|index| self.positional.get(index).map(|it| (*it).to_owned()));
        for (name, value) in self.keywords() {
            if is_context(&name) {
                continue;
            }
            let text = name.to_str()?;
            let place = names.iter().position(|known| *known == text);
            match place.map(|index| &mut found[index]) {
                Some(place) if place.is_none() => *place = Some((*value).to_owned()),
                Some(_) => {
                    let error = format!("{function}() got multiple values for argument '{text}'");
                    return Err(PyTypeError::new_err(error));
                }
                None => {
                    let error = format!("{function}() got an unexpected keyword argument '{text}'");
                    return Err(PyTypeError::new_err(error));
                }
            }
        }
        if let Some(missing) = found.iter().position(Option::is_none) {
            return Err(PyTypeError::new_err(format!(
                "{function}() missing required argument: '{}'",
                names[missing]
            )));
        }
        let nothing = py.None().into_bound(py);
        Ok(found.map(|it| it.unwrap_or_else(|| nothing.clone())))
    }

    /// What is to be called, with the arguments after the first `N`; and in which context.
    #[inline]
    fn call<const N: usize>(
        &self,
        py: Python<'py>,
        callback: &Bound<'py, PyAny>,
    ) -> PyResult<(Call, Context)> {
        let arguments = match self.positional.get(N..).unwrap_or_default() {
            [] => Arguments::None,
            [one] => Arguments::One((*one).to_owned().unbind()),
            many => Arguments::Many(PyTuple::new(py, many)?.unbind()),
        };
        let context = match self.context() {
            Some(context) => Context::of(context),
            None => Context::current(py)?,
        };
        Ok((Call::new(callback.clone().unbind(), arguments), context))
    }

    /// Calls a `call_at()` that is not ours.
    fn pass_on(
        &self,
        scheduler: &Bound<'py, Scheduler>,
        when: f64,
        callback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = scheduler.py();
        let rest = self.positional.get(2..).unwrap_or_default();
        let mut arguments = vec![when.into_pyobject(py)?.into_any(), callback.clone()];
        arguments.extend(rest.iter().map(|it| (**it).clone()));
        let options = pyo3::types::PyDict::new(py);
        options.set_item(intern!(py, "context"), self.context())?;
        scheduler.call_method(
            intern!(py, "call_at"),
            PyTuple::new(py, arguments)?,
            Some(&options),
        )
    }

    #[inline]
    fn context(&self) -> Option<Bound<'py, PyAny>> {
        let context = match (self.context, self.names) {
            (Some(context), _) => context,
            (None, None) => return None,
            (None, Some(_)) => *self.keywords().find(|(name, _)| is_context(name))?.1,
        };
        (!context.is_none()).then(|| context.to_owned())
    }

    fn keywords(&self) -> impl Iterator<Item = (Bound<'py, PyString>, &Borrowed<'_, 'py, PyAny>)> {
        let names = self.names.into_iter().flat_map(Borrowed::to_owned);
        let names = names.filter_map(|name| name.cast_into::<PyString>().ok());
        names.zip(self.values)
    }
}

#[inline]
fn is_context(name: &Bound<'_, PyString>) -> bool {
    name.to_str().is_ok_and(|name| name == "context")
}
