//! Receivers of a simulation, which answer in the place of those that a client would reach.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::delivery::outcome::Outcome;

/// What comes of a request to this address with this body.
pub type Receivers = Rc<dyn Fn(&str, &Bytes) -> LocalBoxFuture<'static, Outcome>>;

thread_local! {
    static HERE: RefCell<Option<Receivers>> = const { RefCell::new(None) };
}

/// Those of the simulation that runs on this thread.
pub fn here() -> Option<Receivers> {
    HERE.with_borrow(Option::clone)
}

/// From now on these answer what is sent on this thread; none: the real ones do.
pub fn set_here(receivers: Option<Receivers>) {
    HERE.set(receivers);
}
