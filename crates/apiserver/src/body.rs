//! From a request's body to a value: JSON, YAML or protobuf, with bounds, and checks of type and fields.

use serde_json::Value;
use wharf_kube_types::{Schema, Status, protobuf, schema};

use crate::call::{Call, Validation};
use crate::output::PROTOBUF;

/// Largest body that is read.
pub const BODY_BYTES_MAX: usize = 3 << 20;

/// A body with its media type.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The `Content-Type` header.
    pub content_type: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Body<'_> {
    /// The media type without its parameters.
    pub fn media_type(&self) -> &str {
        let plain = self.content_type.split(';').next().unwrap_or_default();
        plain.trim()
    }

    /// The value, and fields that are there more than once.
    ///
    /// # Errors
    /// The media type is unknown, or the bytes are not of it.
    pub fn value(&self) -> Result<(Value, Vec<String>), Status> {
        match self.media_type() {
            "" | "application/json" | "*/*" => schema::parse_strict(self.bytes).map_err(|e| {
                Status::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
            }),
            "application/yaml" => crate::yaml::read(self.bytes).map_err(Status::bad_request),
            PROTOBUF => protobuf::decode(self.bytes)
                .map(|value| (value, Vec::new()))
                .map_err(|e| Status::bad_request(e.to_string())),
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf: {other}"
            ))),
        }
    }
}

impl Call {
    /// Reads an object of the call's kind.
    ///
    /// # Errors
    /// It is of another kind, or has faults that the client wants to know of.
    pub fn read_object(&mut self, body: Body<'_>) -> Result<Value, Status> {
        let (value, doubled) = body.value()?;
        self.check_object(value, doubled)
    }

    /// The kind and version that objects of this call have: the subresource's where it has its own.
    pub fn expected(&self) -> (String, String) {
        let resource = &self.kind.resource;
        if let Some(sub) = resource.subresource(&self.subresource)
            && sub.kind != resource.kind
        {
            // An empty version in the table is the parent's.
            let version = match (sub.group.as_str(), sub.version.as_str()) {
                ("", "") => resource.api_version(),
                ("", version) => version.to_owned(),
                (group, version) => format!("{group}/{version}"),
            };
            return (version, sub.kind.clone());
        }
        (resource.api_version(), resource.kind.clone())
    }

    /// Checks that a value is an object of the call's kind and brings it into form.
    ///
    /// # Errors
    /// As [`Call::read_object`].
    pub fn check_object(
        &mut self,
        mut value: Value,
        doubled: Vec<String>,
    ) -> Result<Value, Status> {
        let (version, kind) = self.expected();
        if !value.is_object() {
            return Err(Status::bad_request(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct, want an object of kind {kind}"
            )));
        }
        fill_type(&mut value, &version, &kind);
        if value["apiVersion"] != version.as_str() {
            return Err(Status::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({version})",
                value["apiVersion"].as_str().unwrap_or_default(),
            )));
        }
        if value["kind"] != kind.as_str() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {} provided instead",
                value["kind"].as_str().unwrap_or_default(),
            )));
        }
        let read = if kind == self.kind.resource.kind {
            schema::read(&self.kind.resource, &mut value)
        } else {
            read_definition(&version, &kind, &mut value)
        };
        let mut faults = read.map_err(Status::bad_request)?;
        faults.extend(doubled);
        self.report(&faults, &kind)?;
        Ok(value)
    }

    fn report(&mut self, faults: &[String], kind: &str) -> Result<(), Status> {
        if faults.is_empty() {
            return Ok(());
        }
        match self.validation {
            Validation::Ignore => {}
            Validation::Warn => self.warnings.extend_from_slice(faults),
            Validation::Strict => {
                return Err(Status::bad_request(format!(
                    "{kind} in version {:?} cannot be handled as a {kind}: strict decoding error: {}",
                    self.kind.resource.version,
                    faults.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// Clients may leave the type out where the path says it.
fn fill_type(value: &mut Value, version: &str, kind: &str) {
    for (field, text) in [("apiVersion", version), ("kind", kind)] {
        if value[field].as_str().is_none_or(str::is_empty) && !value[field].is_number() {
            value[field] = text.into();
        }
    }
}

/// Reads an object of a kind that only a subresource speaks, as `Scale`.
fn read_definition(
    api_version: &str,
    kind: &str,
    value: &mut Value,
) -> Result<Vec<String>, String> {
    let (group, version) = wharf_kube_types::resources::split_api_version(api_version);
    let name = wharf_kube_types::resources::definition(group, version, kind);
    let Some(definition) = Schema::builtin(&name) else {
        return Ok(Vec::new());
    };
    if let Some(message) = schema::decode(&definition, value) {
        return Err(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {message}"
        ));
    }
    let unknown = schema::prune(&definition, value);
    schema::normalize(&definition, value);
    wharf_kube_types::defaults::apply_schema(&definition, value);
    Ok(unknown)
}
