//! The route table: every address with its methods, each with its handler and what the API document says about it. The
//! server's routes and the document are both made from it, so that neither knows an address that the other does not.

use actix_web::guard::{GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder, Route, guard, web};

use super::openapi::About;
use super::query::BodyBytes;
use super::query_names;
use crate::settings::Limits;

/// What may be sent to an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// The body of an ordinary request.
    Request,
    /// Many events at once.
    Batch,
}

impl BodyLimit {
    fn bytes(self, limits: &Limits) -> usize {
        match self {
            BodyLimit::Request => limits.request_bytes,
            BodyLimit::Batch => limits.batch_bytes,
        }
    }
}

/// A method of an address.
pub struct Entry {
    pub method: Method,
    pub about: About,
    route: Route,
}

pub struct Address {
    /// As actix reads it: `{name}`, or `{name:regex}`.
    pub pattern: String,
    pub entries: Vec<Entry>,
    /// Whether its query may hold whatever the client likes.
    pub any_query: bool,
    /// What takes every method that is not described.
    rest: Option<Route>,
    /// Whether there is something at a path that the pattern stands for; none: always.
    is_there: Option<fn(&str) -> bool>,
    room: BodyLimit,
}

#[derive(Default)]
pub struct Table {
    pub addresses: Vec<Address>,
}

impl Table {
    pub fn at(&mut self, pattern: impl Into<String>) -> &mut Address {
        let (pattern, entries) = (pattern.into(), Vec::new());
        self.addresses.push(Address {
            pattern,
            entries,
            any_query: false,
            rest: None,
            is_there: None,
            room: BodyLimit::Request,
        });
        // it was pushed just now
        self.addresses.last_mut().expect("an address")
    }

    /// Registers everything. actix tries one address after the other, so those that take many events come first; none of
    /// them stands for a path that another one stands for too.
    pub fn serve(mut self, config: &mut web::ServiceConfig, limits: &Limits) {
        self.addresses.sort_by_key(|address| address.room != BodyLimit::Batch);
        for address in self.addresses {
            let bytes = address.room.bytes(limits);
            let mut resource = web::resource(address.pattern.as_str());
            resource = resource.app_data(web::PayloadConfig::new(bytes)).app_data(BodyBytes(bytes));
            if let Some(names) = query_names::of_pattern(&address.pattern) {
                resource = resource.app_data(names);
            }
            if let Some(is_there) = address.is_there {
                resource = resource.guard(fn_guard(move |request| is_there(request.head().uri.path())));
            }
            let routes = address.entries.into_iter().map(|entry| entry.route).chain(address.rest);
            config.service(routes.fold(resource, |resource, route| resource.route(route)));
        }
    }
}

impl Address {
    pub fn room(&mut self, room: BodyLimit) -> &mut Address {
        self.room = room;
        self
    }

    /// Paths of this pattern at which there is nothing are unknown ones, whatever the method.
    pub fn only_where(&mut self, is_there: fn(&str) -> bool) -> &mut Address {
        self.is_there = Some(is_there);
        self
    }

    /// Who asks here is no client of the API, and puts into the query what it likes.
    pub fn any_query(&mut self) -> &mut Address {
        self.any_query = true;
        self
    }

    pub fn get<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::GET, handler, about)
    }

    pub fn post<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::POST, handler, about)
    }

    pub fn put<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::PUT, handler, about)
    }

    pub fn patch<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::PATCH, handler, about)
    }

    pub fn delete<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::DELETE, handler, about)
    }

    pub fn options<A>(&mut self, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        self.on(Method::OPTIONS, handler, about)
    }

    /// Every other method but those that concern the connection (RFC 9110, 9.3.6 and 9.3.8). What such a request says is
    /// its sender's, so there is nothing to describe.
    pub fn others<A>(&mut self, handler: impl Handler<A, Output: Responder>) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        let is_other = |head: &GuardContext<'_>| !matches!(head.head().method, Method::TRACE | Method::CONNECT);
        self.rest = Some(web::route().guard(fn_guard(is_other)).to(handler));
        self
    }

    fn on<A>(&mut self, method: Method, handler: impl Handler<A, Output: Responder>, about: About) -> &mut Address
    where
        A: FromRequest + 'static,
    {
        let route = match method {
            // RFC 9110, 9.3.2; the body is left out when the answer is framed
            Method::GET => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            _ => web::method(method.clone()),
        };
        let route = route.to(handler);
        self.entries.push(Entry { method, about, route });
        self
    }
}
