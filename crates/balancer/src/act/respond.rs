//! The balancer's own responses, as an Application Load Balancer words them.

use std::borrow::Cow;

use http::StatusCode;

use crate::config::FixedResponse;
use crate::decide::forwarded::{line, status_line};

/// A response that the balancer makes itself.
pub(crate) struct Page {
    pub status: StatusCode,
    content_type: Cow<'static, str>,
    location: Option<String>,
    body: Cow<'static, str>,
}

impl Page {
    /// An error page.
    pub fn error(status: StatusCode) -> Self {
        let title = match status.as_u16() {
            408 => "408 Request Time-out".to_owned(),
            414 => "414 Request-URI Too Large".to_owned(),
            405 => "405 Not Allowed".to_owned(),
            503 => "503 Service Temporarily Unavailable".to_owned(),
            504 => "504 Gateway Time-out".to_owned(),
            code => format!("{code} {}", status.canonical_reason().unwrap_or("Error")),
        };
        let body = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
        );
        Self { status, content_type: "text/html".into(), location: None, body: body.into() }
    }

    /// What the shared front says when no load balancer has the name asked for.
    pub fn no_such_load_balancer(host: &str, port: u16) -> Self {
        let body = format!("No load balancer listens on port {port} under the name '{host}'.\n");
        let content_type = "text/plain; charset=utf-8".into();
        Self { status: StatusCode::NOT_FOUND, content_type, location: None, body: body.into() }
    }

    /// A redirect to a location.
    pub fn redirect(permanent: bool, location: String) -> Self {
        // What a client sent and a configuration holds may not begin a line of its own.
        if location.bytes().any(|byte| byte.is_ascii_control()) {
            return Self::error(StatusCode::BAD_REQUEST);
        }
        let status = if permanent { StatusCode::MOVED_PERMANENTLY } else { StatusCode::FOUND };
        Self { location: Some(location), ..Self::error(status) }
    }

    /// A fixed response.
    pub fn fixed(action: &FixedResponse) -> Self {
        let status = StatusCode::from_u16(action.status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = match action.content_type.as_deref() {
            None | Some("text/plain") => "text/plain; charset=utf-8".into(),
            Some(other) => other.to_owned().into(),
        };
        let body = action.message_body.clone().unwrap_or_default().into();
        Self { status, content_type, location: None, body }
    }

    /// Writes it. To a HEAD request only the head is sent; a 204 has no body.
    pub fn write(&self, out: &mut Vec<u8>, to_head: bool, date: &[u8], connection: Option<&str>) {
        status_line(out, self.status.as_u16(), self.status.canonical_reason().unwrap_or(""));
        line(out, "Server", b"awselb/2.0");
        line(out, "Date", date);
        line(out, "Content-Type", self.content_type.as_bytes());
        if let Some(location) = &self.location {
            line(out, "Location", location.as_bytes());
        }
        let bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bodiless {
            line(out, "Content-Length", self.body.len().to_string().as_bytes());
        }
        if let Some(connection) = connection {
            line(out, "Connection", connection.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !to_head && !bodiless {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}
