//! From the JSON of a model to `Model`.

use super::*;
use serde_json::Value as Json;

pub(super) fn model(name: &str, json: &Json) -> Result<Model, String> {
    let metadata = &json["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_string();
    let shapes = json["shapes"].as_object().ok_or("the model has no shapes")?;
    let ids: HashMap<&str, ShapeId> =
        shapes.keys().enumerate().map(|(id, name)| (name.as_str(), id)).collect();
    let quirks = quirks(&json["quirks"])?;
    let parser = Parser { ids, quirks: &quirks };
    let mut model = Model {
        name: name.to_string(),
        api_version: text("apiVersion"),
        signing_name: metadata["signingName"].as_str().unwrap_or(&text("endpointPrefix")).to_string(),
        endpoint_prefix: text("endpointPrefix"),
        target_prefix: text("targetPrefix"),
        xml_namespace: text("xmlNamespace"),
        protocols: protocols(metadata)?,
        query_compatible: !metadata["awsQueryCompatible"].is_null(),
        quirks: Quirks::default(),
        operations: HashMap::new(),
        shapes: Vec::with_capacity(shapes.len()),
        errors: HashMap::new(),
    };
    for (name, shape) in shapes {
        model.shapes.push(parser.shape(name, shape)?);
    }
    for (id, shape) in model.shapes.iter().enumerate() {
        if let Some(error) = &shape.error {
            model.errors.insert(error.code.clone(), id);
        }
    }
    for (id, shape) in model.shapes.iter().enumerate().filter(|(_, shape)| shape.error.is_some()) {
        model.errors.insert(shape.name.clone(), id); // A shape's own name wins over another's code.
    }
    for (name, operation) in json["operations"].as_object().into_iter().flatten() {
        let kept = if operation.is_null() { None } else { Some(parser.operation(name, operation)?) };
        model.operations.insert(name.clone(), kept);
    }
    for place in &quirks.required {
        require(&mut model, place)?;
    }
    model.quirks = quirks;
    Ok(model)
}

fn require(model: &mut Model, place: &str) -> Result<(), String> {
    let unknown = || format!("quirks: no member {place}");
    let (shape, member) = place.split_once('.').ok_or_else(unknown)?;
    let shape = model.shapes.iter_mut().find(|s| s.name == shape).ok_or_else(unknown)?;
    let Kind::Structure(members) = &mut shape.kind else { return Err(unknown()) };
    members.iter_mut().find(|m| m.name == member).ok_or_else(unknown)?.required = true;
    Ok(())
}

fn protocols(metadata: &Json) -> Result<Vec<Protocol>, String> {
    let first = metadata["protocol"].as_str().unwrap_or_default();
    let listed = metadata["protocols"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let mut found = Vec::new();
    for name in std::iter::once(first).chain(listed) {
        let protocol = match name {
            "json" if metadata["jsonVersion"] == "1.0" => Protocol::Json10,
            "json" => Protocol::Json11,
            "rest-json" => Protocol::RestJson,
            "query" => Protocol::Query,
            "ec2" => Protocol::Ec2,
            "smithy-rpc-v2-cbor" => Protocol::Cbor,
            _ => continue,
        };
        if !found.contains(&protocol) {
            found.push(protocol);
        }
    }
    if found.is_empty() { Err(format!("no protocol of {metadata} is known")) } else { Ok(found) }
}

fn quirks(json: &Json) -> Result<Quirks, String> {
    let list = |key: &str| {
        let items = json[key].as_array().into_iter().flatten();
        items.filter_map(Json::as_str).map(str::to_string).collect()
    };
    let validation_style = match json["validation_style"].as_str() {
        None => ValidationStyle::Coral,
        Some("ecr") => ValidationStyle::Ecr,
        Some("ec2") => ValidationStyle::Ec2,
        Some(other) => return Err(format!("quirks: no validation_style {other:?}")),
    };
    Ok(Quirks {
        validation_code: json["validation_code"].as_str().map(str::to_string),
        validation_style,
        unchecked: list("unchecked"),
        patterns: match &json["patterns"] {
            Json::Null => HashMap::new(),
            patterns => serde_json::from_value(patterns.clone()).map_err(|e| format!("quirks: {e}"))?,
        },
        required: list("required"),
    })
}

struct Parser<'a> {
    ids: HashMap<&'a str, ShapeId>,
    quirks: &'a Quirks,
}

impl Parser<'_> {
    fn id(&self, reference: &Json) -> Result<ShapeId, String> {
        let name = reference["shape"].as_str().unwrap_or_default();
        self.ids.get(name).copied().ok_or_else(|| format!("no shape {name:?}"))
    }

    fn operation(&self, name: &str, json: &Json) -> Result<OperationModel, String> {
        let end = |key: &str| json.get(key).map(|reference| self.id(reference)).transpose();
        let errors = json["errors"].as_array().into_iter().flatten();
        let error =
            |e: &Json| if e.is_string() { self.id(&serde_json::json!({ "shape": e })) } else { self.id(e) };
        let auth = json["auth"].as_array().is_some_and(|auth| auth.iter().any(|a| a == "smithy.api#noAuth"));
        Ok(OperationModel {
            name: name.to_string(),
            method: json["http"]["method"].as_str().unwrap_or("POST").to_string(),
            uri: json["http"]["requestUri"].as_str().unwrap_or("/").to_string(),
            status: json["http"]["responseCode"].as_u64().unwrap_or(200) as u16,
            input: end("input")?,
            output: end("output")?,
            result_wrapper: json["output"]["resultWrapper"].as_str().map(str::to_string),
            errors: errors.map(error).collect::<Result<_, _>>()?,
            unsigned: auth || json["authtype"] == "none",
        })
    }

    fn shape(&self, name: &str, json: &Json) -> Result<Shape, String> {
        let kind = self.kind(name, json)?;
        let payload = json["payload"].as_str().and_then(|payload| match &kind {
            Kind::Structure(members) => members.iter().position(|member| member.name == payload),
            _ => None,
        });
        let values = json["enum"].as_array().into_iter().flatten();
        let instead = self.quirks.patterns.get(name).cloned().unwrap_or_default();
        let pattern = |text: &str| Pattern { text: text.to_string(), instead, compiled: OnceLock::new() };
        Ok(Shape {
            name: name.to_string(),
            kind,
            min: json["min"].as_f64(),
            max: json["max"].as_f64(),
            pattern: json["pattern"].as_str().map(pattern),
            values: values.filter_map(Json::as_str).map(str::to_string).collect(),
            sensitive: json["sensitive"] == true,
            timestamp: timestamp(json)?,
            union: json["union"] == true,
            flattened: json["flattened"] == true,
            error: (json["exception"] == true || !json["error"].is_null()).then(|| error(name, json)),
            payload,
        })
    }

    fn kind(&self, name: &str, json: &Json) -> Result<Kind, String> {
        Ok(match json["type"].as_str().unwrap_or_default() {
            "structure" if json["document"] == true => Kind::Document,
            "structure" => {
                let required = json["required"].as_array().into_iter().flatten();
                let required: Vec<&str> = required.filter_map(Json::as_str).collect();
                let members = json["members"].as_object().into_iter().flatten();
                let one =
                    |(name, m): (&String, &Json)| self.member(name, m, required.contains(&name.as_str()));
                Kind::Structure(members.map(one).collect::<Result<_, _>>()?)
            }
            "list" => Kind::List(Box::new(self.member("member", &json["member"], false)?)),
            "map" => Kind::Map(
                Box::new(self.member("key", &json["key"], false)?),
                Box::new(self.member("value", &json["value"], false)?),
            ),
            "string" | "character" => Kind::String,
            "integer" => Kind::Integer,
            "long" => Kind::Long,
            "float" | "double" => Kind::Float,
            "boolean" => Kind::Boolean,
            "timestamp" => Kind::Timestamp,
            "blob" => Kind::Blob,
            other => return Err(format!("shape {name} has the type {other:?}")),
        })
    }

    fn member(&self, name: &str, json: &Json, required: bool) -> Result<Member, String> {
        Ok(Member {
            name: name.to_string(),
            shape: self.id(json)?,
            required,
            location_name: json["locationName"].as_str().map(str::to_string),
            query_name: json["queryName"].as_str().map(str::to_string),
            location: match json["location"].as_str() {
                None => Location::Body,
                Some("header") => Location::Header,
                Some("headers") => Location::Headers,
                Some("uri") => Location::Uri,
                Some("querystring") => Location::QueryString,
                Some("statusCode") => Location::StatusCode,
                Some(other) => return Err(format!("member {name} has the location {other:?}")),
            },
            flattened: json["flattened"] == true,
            timestamp: timestamp(json)?,
            json_value: json["jsonvalue"] == true,
            idempotency_token: json["idempotencyToken"] == true,
        })
    }
}

fn timestamp(json: &Json) -> Result<Option<TimestampFormat>, String> {
    Ok(match json["timestampFormat"].as_str() {
        None => None,
        Some("iso8601") => Some(TimestampFormat::Iso8601),
        Some("rfc822") => Some(TimestampFormat::Rfc822),
        Some("unixTimestamp") => Some(TimestampFormat::Unix),
        Some(other) => return Err(format!("no timestamp format {other:?}")),
    })
}

fn error(name: &str, json: &Json) -> ErrorTraits {
    let error = &json["error"];
    let fault = json["fault"] == true || error["fault"] == true;
    let sender = error["senderFault"].as_bool().unwrap_or(!fault);
    ErrorTraits {
        code: error["code"].as_str().unwrap_or(name).to_string(),
        status: error["httpStatusCode"].as_u64().unwrap_or(if sender { 400 } else { 500 }) as u16,
        sender,
        query_code: error["code"].as_str().map(str::to_string),
    }
}
