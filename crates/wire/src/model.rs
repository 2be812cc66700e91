//! A service model, parsed from `models/<service>.json` into what readers, writers and validation need.

mod parse;

use std::collections::HashMap;
use std::sync::OnceLock;

/// Index of a shape in `Model::shapes`.
pub type ShapeId = usize;

/// One AWS service.
#[derive(Debug)]
pub struct Model {
    /// Our module name and botocore's folder name, such as `elbv2`.
    pub name: String,
    /// Such as `2014-11-13`.
    pub api_version: String,
    /// The name in SigV4 credential scopes, such as `elasticloadbalancing`.
    pub signing_name: String,
    /// First label of the service's host name, such as `api.ecr`.
    pub endpoint_prefix: String,
    /// The prefix of `X-Amz-Target`, such as `AmazonEC2ContainerServiceV20141113`; empty for query services.
    pub target_prefix: String,
    /// Namespace of the XML answers.
    pub xml_namespace: String,
    /// What the service speaks, its preferred protocol first.
    pub protocols: Vec<Protocol>,
    /// Whether errors carry `x-amzn-query-error` for clients that once spoke Query.
    pub query_compatible: bool,
    /// Where AWS answers otherwise than the model says.
    pub quirks: Quirks,
    /// Every operation of the service; `None` for those kept by name alone.
    pub operations: HashMap<String, Option<OperationModel>>,
    /// All shapes.
    pub shapes: Vec<Shape>,
    /// Error shapes by their name and by their code on the wire.
    pub errors: HashMap<String, ShapeId>,
}

/// How requests and answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `application/x-amz-json-1.0`
    Json10,
    /// `application/x-amz-json-1.1`
    Json11,
    /// JSON bodies, with members in the path, the query string and headers.
    RestJson,
    /// Form-encoded requests, XML answers.
    Query,
    /// EC2's dialect of Query.
    Ec2,
    /// Smithy RPC v2 with CBOR bodies.
    Cbor,
}

/// Differences from the model, from `models/quirks.toml`.
#[derive(Debug, Default, Clone)]
pub struct Quirks {
    /// Code of an input that breaks a constraint; `None` takes the protocol's.
    pub validation_code: Option<String>,
    /// How a broken constraint is worded.
    pub validation_style: ValidationStyle,
    /// Constraints of the model that the service itself does not check: `Shape` or `Shape.member`.
    pub unchecked: Vec<String>,
    /// By shape: what stands for a pattern that our regular expressions cannot say.
    pub patterns: HashMap<String, Vec<String>>,
    /// Members of a shape that AWS requires although the model does not say so: `Shape.member`.
    pub required: Vec<String>,
}

/// How a broken constraint is worded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ValidationStyle {
    /// `1 validation error detected: Value 'x' at 'y' failed to satisfy constraint: Member must …`
    #[default]
    Coral,
    /// ECR: `Invalid parameter at 'y' failed to satisfy constraint: 'must …'`
    Ecr,
    /// EC2: one error at a time, each with its own code.
    Ec2,
}

/// One operation that is kept in full.
#[derive(Debug)]
pub struct OperationModel {
    /// Such as `RunTask`.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// Path pattern and constant query string, such as `/clusters/{name}?x=1`.
    pub uri: String,
    /// HTTP status of success.
    pub status: u16,
    /// The request's shape.
    pub input: Option<ShapeId>,
    /// The answer's shape.
    pub output: Option<ShapeId>,
    /// Query services: the element around the result.
    pub result_wrapper: Option<String>,
    /// The errors the model lists for it.
    pub errors: Vec<ShapeId>,
    /// Whether it may be called without a signature.
    pub unsigned: bool,
}

/// One shape.
#[derive(Debug)]
pub struct Shape {
    /// Its name in the model.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Smallest length or value.
    pub min: Option<f64>,
    /// Largest length or value.
    pub max: Option<f64>,
    /// Regular expression that the whole of a string must match.
    pub pattern: Option<Pattern>,
    /// The values of an enum; empty when any string will do.
    pub values: Vec<String>,
    /// Never repeated in a message.
    pub sensitive: bool,
    /// How a timestamp is written when not as the protocol does.
    pub timestamp: Option<TimestampFormat>,
    /// A structure of which exactly one member is set.
    pub union: bool,
    /// The XML list's or map's entries stand without a wrapper.
    pub flattened: bool,
    /// For errors: code on the wire, HTTP status, whether the sender's fault.
    pub error: Option<ErrorTraits>,
    /// REST: index of the member that is the whole body.
    pub payload: Option<usize>,
}

/// A pattern and, once used, its compiled form.
#[derive(Debug)]
pub struct Pattern {
    /// As the model has it.
    pub text: String,
    /// What a text must match instead (after `!`, must not), when the model's form is beyond our expressions.
    pub instead: Vec<String>,
    pub(crate) compiled: OnceLock<Vec<(bool, regex::Regex)>>,
}

/// What makes a structure an error.
#[derive(Debug, Clone)]
pub struct ErrorTraits {
    /// The code that clients see.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// Whose fault it is.
    pub sender: bool,
    /// Query-compatible services: the code in `x-amzn-query-error`.
    pub query_code: Option<String>,
}

/// The kinds of shapes.
#[derive(Debug)]
pub enum Kind {
    /// A structure or union, members in the model's order.
    Structure(Vec<Member>),
    /// A list; the member's `location` names are those of its entries.
    List(Box<Member>),
    /// A map with string keys: key, value.
    Map(Box<Member>, Box<Member>),
    /// A string or enum.
    String,
    /// An integer of 32 bits.
    Integer,
    /// An integer of 64 bits.
    Long,
    /// A float or double.
    Float,
    /// A boolean.
    Boolean,
    /// A moment.
    Timestamp,
    /// Bytes.
    Blob,
    /// Any JSON.
    Document,
}

/// A member of a structure, or the entries of a list or map.
#[derive(Debug)]
pub struct Member {
    /// Its name in the model, or `member`, `key`, `value`.
    pub name: String,
    /// Its shape.
    pub shape: ShapeId,
    /// Whether a request must have it.
    pub required: bool,
    /// `locationName`, if any.
    pub location_name: Option<String>,
    /// EC2's `queryName`, if any.
    pub query_name: Option<String>,
    /// REST: where it stands.
    pub location: Location,
    /// Its list or map has no wrapper here.
    pub flattened: bool,
    /// Timestamp format at this place.
    pub timestamp: Option<TimestampFormat>,
    /// REST: a header that holds JSON in base64.
    pub json_value: bool,
    /// Filled by clients when absent.
    pub idempotency_token: bool,
}

/// Where a REST member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the body.
    Body,
    /// A header.
    Header,
    /// All headers with a prefix.
    Headers,
    /// A label of the path.
    Uri,
    /// In the query string.
    QueryString,
    /// The HTTP status.
    StatusCode,
}

/// How a timestamp is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2014-04-29T18:30:38Z`
    Iso8601,
    /// `Tue, 29 Apr 2014 18:30:38 GMT`
    Rfc822,
    /// Seconds since the epoch, with a fraction.
    Unix,
}

impl Model {
    /// Parses a pruned botocore model. The error says what is wrong with the file.
    pub fn parse(name: &str, text: &str) -> Result<Model, String> {
        parse::model(name, &serde_json::from_str(text).map_err(|e| e.to_string())?)
    }

    /// Like `parse`, from parsed JSON.
    pub fn from_json(name: &str, model: &serde_json::Value) -> Result<Model, String> {
        parse::model(name, model)
    }

    /// The operation, if it is kept in full.
    pub fn operation(&self, name: &str) -> Option<&OperationModel> {
        self.operations.get(name)?.as_ref()
    }

    /// The shape with this index.
    pub fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id]
    }

    /// The members of a structure; empty for `None` and for other kinds.
    pub fn members(&self, id: Option<ShapeId>) -> &[Member] {
        match id.map(|id| &self.shapes[id].kind) {
            Some(Kind::Structure(members)) => members,
            _ => &[],
        }
    }
}

impl Member {
    /// The name in JSON bodies and in Query.
    pub fn wire_name(&self) -> &str {
        self.location_name.as_deref().unwrap_or(&self.name)
    }
}
