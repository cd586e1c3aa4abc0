//! Routes: the functions that answer requests, by method and path.
//!
//! To add a route, add an entry to `ROUTES` and the function that answers it.

use super::Server;
use crate::id::ConnId;
use crate::web::http::{Body, Method, Request, Response};

/// Answers a request. If its route takes a body, the body has been read. `None` if the function has responded itself.
type Answer = fn(&mut Server, ConnId, &Request) -> Option<Response>;

/// One method of one path.
pub(super) struct Route {
    method: Method,
    /// The path below `--prefix`. A `*` at its end matches any rest.
    path: &'static str,
    /// The media types that the body may have; if there are none, the request must not have a body.
    accepts: &'static [&'static str],
    pub(super) answer: Answer,
}

/// All routes. A request belongs to the first path that matches; the routes with this path are its methods.
const ROUTES: &[Route] = &[
    Route::get("", Server::answer_root),
    Route::get("/check", Server::answer_check),
    Route::get("/health", Server::answer_health),
    Route::get("/metrics", Server::answer_metrics),
    Route { method: Method::Post, path: "/notice", accepts: &["application/json"], answer: Server::answer_notice },
    Route::get("/websocket", Server::answer_websocket),
    Route::get("/ws", Server::answer_websocket),
    Route::get("/*", Server::answer_file),
];

/// Finds the route of a request.
///
/// # Errors
/// Returns the response to send if there is no such route, or if the route does not take the request's body.
pub(super) fn find(prefix: &str, request: &Request) -> Result<&'static Route, Response> {
    find_in(ROUTES, prefix, request)
}

/// The path of a request below `--prefix`; `None` for paths outside it.
pub(super) fn path_below<'a>(prefix: &str, request: &'a Request) -> Option<&'a str> {
    match request.path.strip_prefix(prefix) {
        // The root of the host redirects to the page too.
        None if request.path == "/" => Some(""),
        path => path,
    }
}

fn find_in(routes: &'static [Route], prefix: &str, request: &Request) -> Result<&'static Route, Response> {
    let found = path_below(prefix, request).and_then(|path| routes.iter().find(|route| route.fits(path)));
    let Some(address) = found else {
        return Err(not_found());
    };
    let methods = routes.iter().filter(|route| route.path == address.path);
    // HEAD is answered as GET; the connection omits the body.
    let method = if request.method == Method::Head { Method::Get } else { request.method };
    let Some(route) = methods.clone().find(|route| route.method == method) else {
        let has_get = methods.clone().any(|route| route.method == Method::Get);
        let own = methods.map(|route| route.method);
        let mut allowed: Vec<Method> = own.chain(has_get.then_some(Method::Head)).chain([Method::Options]).collect();
        allowed.sort_unstable();
        allowed.dedup();
        let allowed: Vec<_> = allowed.into_iter().map(Method::name).collect();
        let response = match method {
            // Reverse proxies check with OPTIONS whether the server is alive. The response has no CORS fields, so it
            // permits nothing to pages of other origins.
            Method::Options => Response::text(200, ""),
            _ => Response::text(405, &format!("This address allows only {}.\n", allowed.join(", "))),
        };
        return Err(response.with_header("Allow", allowed.join(", ")));
    };
    route.check_body(request)?;
    Ok(route)
}

/// The response for a path that does not exist.
pub(super) fn not_found() -> Response {
    Response::text(404, "This page does not exist.\n")
}

impl Route {
    const fn get(path: &'static str, answer: Answer) -> Route {
        Route { method: Method::Get, path, accepts: &[], answer }
    }

    fn fits(&self, path: &str) -> bool {
        match self.path.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == self.path,
        }
    }

    /// Checks that the route takes the request's body, before the body is read.
    fn check_body(&self, request: &Request) -> Result<(), Response> {
        if self.accepts.is_empty() {
            let unwanted = || Response::text(415, "A request to this address must not have a body.\n");
            return if request.has_unread_body() { Err(unwanted()) } else { Ok(()) };
        }
        if request.body == Body::Absent {
            return Err(Response::text(411, "A request to this address must have a body with a Content-Length.\n"));
        }
        if !self.accepts.contains(&request.content_type.as_str()) {
            let types = self.accepts.join(", ");
            let text = format!("The Content-Type of a request to this address must be {types}.\n");
            return Err(Response::text(415, &text).with_header("Accept", types));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &mut Server, _: ConnId, _: &Request) -> Option<Response> {
        None
    }

    const fn route(method: Method, path: &'static str, accepts: &'static [&'static str]) -> Route {
        Route { method, path, accepts, answer: none }
    }

    const TABLE: &[Route] = &[
        route(Method::Get, "", &[]),
        route(Method::Get, "/rooms", &[]),
        route(Method::Post, "/rooms", &["application/json", "text/json"]),
        route(Method::Patch, "/rooms/*", &["application/trickle-ice-sdpfrag"]),
        route(Method::Delete, "/rooms/*", &[]),
        route(Method::Options, "/rooms/*", &[]),
        route(Method::Get, "/*", &[]),
    ];

    fn found(prefix: &str, method: &str, path: &str, fields: &str) -> Result<(Method, &'static str), Response> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (request, _) = Request::parse(head.as_bytes()).expect(&head).expect(&head);
        find_in(TABLE, prefix, &request).map(|route| (route.method, route.path))
    }

    #[test]
    fn a_request_finds_its_route() {
        let json = "Content-Length: 2\r\nContent-Type: application/json; charset=utf-8\r\n";
        let chunked = "Transfer-Encoding: chunked\r\nContent-Type: text/json\r\n";
        let fragment = "Content-Length: 2\r\nContent-Type: application/trickle-ice-sdpfrag\r\n";
        let empty = "Content-Length: 0\r\nContent-Type: application/json\r\n";
        for (prefix, method, path, fields, expected) in [
            ("/p", "GET", "/", "", (Method::Get, "")),
            ("/p", "GET", "/p", "", (Method::Get, "")),
            ("/p", "HEAD", "/p", "", (Method::Get, "")),
            ("", "GET", "/", "", (Method::Get, "/*")),
            ("/p", "GET", "/p/", "", (Method::Get, "/*")),
            ("/p", "GET", "/p/rooms", "", (Method::Get, "/rooms")),
            ("/p", "GET", "/p/rooms?a=b", "Content-Length: 0\r\n", (Method::Get, "/rooms")),
            ("", "POST", "/rooms", json, (Method::Post, "/rooms")),
            ("", "POST", "/rooms", chunked, (Method::Post, "/rooms")),
            ("", "POST", "/rooms", empty, (Method::Post, "/rooms")),
            ("", "PATCH", "/rooms/a", fragment, (Method::Patch, "/rooms/*")),
            ("", "DELETE", "/rooms/a/b", "", (Method::Delete, "/rooms/*")),
            ("", "OPTIONS", "/rooms/a", "", (Method::Options, "/rooms/*")),
        ] {
            assert_eq!(found(prefix, method, path, fields), Ok(expected), "{prefix} {method} {path}");
        }
    }

    #[test]
    fn requests_without_a_route_are_answered_before_their_body_is_read() {
        let json = "Content-Length: 2\r\nContent-Type: application/json\r\n";
        let plain = "Content-Length: 2\r\nContent-Type: text/plain\r\n";
        let untyped = "Transfer-Encoding: chunked\r\n";
        let rooms = Some(("Allow", "GET, HEAD, POST, OPTIONS"));
        let files = Some(("Allow", "GET, HEAD, OPTIONS"));
        let one_room = Some(("Allow", "PATCH, DELETE, OPTIONS"));
        let types = Some(("Accept", "application/json, text/json"));
        for (method, path, fields, status, field) in [
            ("GET", "/other", "", 404, None),
            ("GET", "/prefix", "", 404, None),
            ("OPTIONS", "/other", "", 404, None),
            ("POST", "/other", json, 404, None),
            ("OPTIONS", "*", "", 200, files),
            ("OPTIONS", "/", "", 200, files),
            ("OPTIONS", "/p/rooms", "", 200, rooms),
            ("OPTIONS", "/p/index.html", "", 200, files),
            ("DELETE", "/p/rooms", "", 405, rooms),
            ("PATCH", "/p/rooms", json, 405, rooms),
            ("POST", "/p/index.html", json, 405, files),
            ("GET", "/p/rooms/a", "", 405, one_room),
            ("HEAD", "/p/rooms/a", "", 405, one_room),
            ("POST", "/p/rooms", "Content-Type: application/json\r\n", 411, None),
            ("POST", "/p/rooms", plain, 415, types),
            ("POST", "/p/rooms", untyped, 415, types),
            ("POST", "/p/rooms", "Content-Length: 0\r\n", 415, types),
        ] {
            let response = found("/p", method, path, fields).expect_err(path);
            assert_eq!(response.status, status, "{method} {path} {fields}");
            let has = |name: &str| response.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| &**value);
            for name in ["Allow", "Accept"] {
                let expected = field.filter(|(key, _)| *key == name).map(|(_, value)| value);
                assert_eq!(has(name), expected, "{method} {path} {fields}");
            }
        }
    }

    #[test]
    fn each_path_has_one_route_per_method() {
        for (index, route) in ROUTES.iter().enumerate() {
            let is_same = |other: &&Route| (other.method, other.path) == (route.method, route.path);
            assert_eq!(ROUTES.iter().filter(is_same).count(), 1, "{}", route.path);
            let hidden = ROUTES[..index].iter().any(|other| other.path != route.path && other.fits(route.path));
            assert!(!hidden, "{} is after a route that matches it too", route.path);
            assert!(route.path.is_empty() || route.path.starts_with('/'), "{}", route.path);
        }
    }
}
