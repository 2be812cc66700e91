//! A client that costs little: one blocking connection that is kept, requests signed by AWS Signature Version 4.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request};
use serde_json::Value;

/// A client of one service. Any server that speaks AWS will do.
pub struct Client {
    port: u16,
    service: Service,
    connection: Option<BufReader<TcpStream>>,
    /// Sign requests with this key and secret.
    pub key: (String, String),
}

struct Service {
    signing_name: &'static str,
    /// The prefix of `X-Amz-Target`; none for the query protocol.
    target: Option<&'static str>,
    content_type: &'static str,
}

const FORM: &str = "application/x-www-form-urlencoded";

fn service(name: &str) -> Service {
    let (signing_name, target, content_type) = match name {
        "ecs" => ("ecs", Some("AmazonEC2ContainerServiceV20141113"), "application/x-amz-json-1.1"),
        "ecr" => ("ecr", Some("AmazonEC2ContainerRegistry_V20150921"), "application/x-amz-json-1.1"),
        "logs" => ("logs", Some("Logs_20140328"), "application/x-amz-json-1.1"),
        "elbv2" => ("elasticloadbalancing", None, FORM),
        "ec2" => ("ec2", None, FORM),
        "iam" => ("iam", None, FORM),
        _ => ("sts", None, FORM),
    };
    Service { signing_name, target, content_type }
}

impl Client {
    /// A client of a service on a loopback port, with the default credentials.
    pub fn new(port: u16, name: &str) -> Client {
        Client { port, service: service(name), connection: None, key: ("test".into(), "test".into()) }
    }

    /// Calls an operation; the text of its answer. Anything but a 200 is an error.
    pub fn call(&mut self, operation: &str, body: &str) -> Result<String, String> {
        let request = self.signed(operation, body);
        self.send(&request).map_err(|error| format!("{operation}: {error}"))?;
        let (status, answer) = self.receive().map_err(|error| format!("{operation}: {error}"))?;
        if status == 200 { Ok(answer) } else { Err(format!("{operation}: {status} {answer}")) }
    }

    /// Calls an operation of a JSON protocol.
    pub fn json(&mut self, operation: &str, input: &Value) -> Result<Value, String> {
        let answer = self.call(operation, &input.to_string())?;
        serde_json::from_str(&answer).map_err(|error| format!("{operation}: {error}: {answer}"))
    }

    /// Calls an operation of EC2; the first value of an element of its answer.
    pub fn ec2(port: u16, operation: &str, element: &str) -> Result<String, String> {
        let body = format!("Action={operation}&Version=2016-11-15");
        let answer = Client::new(port, "ec2").call(operation, &body)?;
        let found = answer.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once('<'));
        found.map(|(value, _)| value.to_owned()).ok_or_else(|| format!("{operation}: no {element}: {answer}"))
    }

    /// The bytes of a signed request.
    pub fn signed(&self, operation: &str, body: &str) -> Vec<u8> {
        let mut request = Request::post("/").header("host", format!("localhost:{}", self.port));
        request = request.header("content-type", self.service.content_type);
        if let Some(target) = self.service.target {
            request = request.header("x-amz-target", format!("{target}.{operation}"));
        }
        let (mut parts, ()) = request.body(()).expect("the parts are valid").into_parts();
        parts.headers.insert("content-length", HeaderValue::from(body.len()));
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let (key, scope) =
            ((self.key.0.as_str(), self.key.1.as_str()), ("us-east-1", self.service.signing_name));
        wire::sigv4::sign(&mut parts, body.as_bytes(), key, scope, now_ms);
        let mut bytes = b"POST / HTTP/1.1\r\n".to_vec();
        for (name, value) in &parts.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    /// Sends bytes over the connection, which is made at the first time.
    pub fn send(&mut self, request: &[u8]) -> std::io::Result<()> {
        if self.connection.is_none() {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_nodelay(true)?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        connection.get_mut().write_all(request)
    }

    /// Reads one answer: its status and body.
    pub fn receive(&mut self) -> std::io::Result<(u16, String)> {
        let connection = self.connection.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (mut length, mut closes, mut chunked) = (0_usize, false, false);
        loop {
            line.clear();
            connection.read_line(&mut line)?;
            let (name, value) = match line.trim_end().split_once(':') {
                Some((name, value)) => (name.to_ascii_lowercase(), value.trim().to_owned()),
                None => break,
            };
            match name.as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "connection" => closes = value.eq_ignore_ascii_case("close"),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let body = if chunked { read_chunks(connection)? } else { read_exactly(connection, length)? };
        if closes {
            self.connection = None;
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn read_exactly(connection: &mut BufReader<TcpStream>, length: usize) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(body)
}

/// Reads a body in chunks, without trailers.
fn read_chunks(connection: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
        body.extend(read_exactly(connection, length)?);
        connection.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the client makes of an answer.
    fn received(answer: &'static str) -> (u16, String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let mut client = Client::new(port, "ecs");
        let request = client.signed("ListClusters", "{}");
        client.send(&request).unwrap();
        let (status, body) = client.receive().unwrap();
        server.join().unwrap();
        (status, body, client.connection.is_some())
    }

    #[test]
    fn answers_with_a_length_and_in_chunks_are_read_and_a_closed_connection_is_not_kept() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(received(length), (200, "{}".into(), true));
        let chunks =
            "HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(received(chunks), (400, "abc0123456789".into(), true));
        let closed = "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(received(closed), (200, "x".into(), false));
    }
}
