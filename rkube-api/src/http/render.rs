//! From what the server answers to what goes over the wire.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    body::{self, Pieces, ResponseBody},
    media::{Format, Shape, Wanted},
};
use crate::{
    codec::yaml,
    error::ApiError,
    object::Object,
    registry::{Include, Resolved, Table, partial_metadata},
    request::{ApiResponse, List},
};

/// How one request wants its answer.
#[derive(Clone, Debug)]
pub(super) struct Renderer {
    pub(super) wanted: Wanted,
    pub(super) include: Include,
    pub(super) resolved: Resolved,
    pub(super) pretty: bool,
    pub(super) gzip: bool,
    pub(super) now: Timestamp,
}

/// JSON text of anything.
pub(super) fn json_text(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ApiError::internal(format!("cannot encode the answer: {error}")))
}

/// A value's text in a format.
pub(super) fn text(value: &Value, format: Format, pretty: bool) -> Result<Bytes, ApiError> {
    let failed =
        |error: &dyn std::fmt::Display| ApiError::internal(format!("cannot encode the answer: {error}"));
    match format {
        Format::Yaml => yaml::to_string(value).map(Bytes::from).map_err(|error| failed(&error)),
        Format::Json if pretty => {
            let mut text = serde_json::to_vec_pretty(value).map_err(|error| failed(&error))?;
            text.push(b'\n');
            Ok(text.into())
        }
        Format::Json => json_text(value),
    }
}

/// A response with a body of this type.
pub(super) fn response(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<ResponseBody>,
) -> Response<ResponseBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The response that an error is.
pub(super) fn error(error: &ApiError, format: Format, pretty: bool) -> Response<ResponseBody> {
    let status = serde_json::to_value(error.to_status()).unwrap_or_else(|_| json!({"kind": "Status"}));
    let body = text(&status, format, pretty).unwrap_or_default();
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(code, format.essence(), body);
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// All warnings of a response take no more bytes than this, as in Kubernetes; clients bound headers.
const WARNINGS: usize = 4096;

/// `Warning: 299 - "text"`, one a warning, each once. RFC 7234, section 5.5.
fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut sent: Vec<&str> = Vec::new();
    let mut left = WARNINGS;
    for warning in warnings {
        if sent.contains(&warning.as_str()) {
            continue;
        }
        let value = warning_value(warning);
        let Some(rest) = left.checked_sub(value.len()) else { return };
        left = rest;
        sent.push(warning);
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            headers.append(header::WARNING, value);
        }
    }
}

fn warning_value(warning: &str) -> Bytes {
    let mut value = BytesMut::from(&b"299 - \""[..]);
    for character in warning.chars() {
        match character {
            '"' | '\\' => value.extend_from_slice(&[b'\\', character as u8]),
            control if control.is_control() => value.put_u8(b' '),
            other => value.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    value.put_u8(b'"');
    value.freeze()
}

impl Renderer {
    /// The response that an answer is; a watch is not answered here.
    pub(super) fn render(&self, answer: ApiResponse) -> Result<Response<ResponseBody>, ApiError> {
        let (response, warnings) = match answer {
            ApiResponse::Object { object, code, warnings } => {
                let code = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
                (self.whole(code, self.object(&object)?)?, warnings)
            }
            ApiResponse::Status { status, warnings } => {
                (self.whole(StatusCode::OK, json_text(&status)?)?, warnings)
            }
            ApiResponse::List(list) => (self.list(list)?, Vec::new()),
            ApiResponse::Watch(_) => return Err(ApiError::internal("a watch where none was asked for")),
        };
        let mut response = response;
        warn(response.headers_mut(), &warnings);
        Ok(response)
    }

    /// A table of the resource.
    pub(super) fn table(&self) -> Table {
        Table::of(&self.resolved.definition, self.include, self.now)
    }

    /// The row of an object, which is of the version asked for. So are the columns of a custom resource; those
    /// of other kinds are of the hub version.
    pub(super) fn row(&self, table: &Table, object: &Object) -> Result<Value, ApiError> {
        let mut row = table.row(object)?;
        if let Some(to_hub) = &self.resolved.version().to_hub
            && !self.resolved.definition.custom
            && object.kind() == self.resolved.definition.names.kind
        {
            row["cells"] = table.cells(&to_hub(object.clone())?).into();
        }
        Ok(row)
    }

    /// An object's JSON text, in the shape asked for.
    fn object(&self, object: &Object) -> Result<Bytes, ApiError> {
        match self.wanted.shape {
            Shape::Whole => Ok(object.encode()?),
            Shape::Metadata => json_text(&partial_metadata(object)?),
            Shape::Table => {
                let table = self.table();
                let metadata = json!({"resourceVersion": object.resource_version()});
                json_text(&table.render(metadata, vec![self.row(&table, object)?], true))
            }
        }
    }

    /// Text that is JSON now, as what was asked for.
    fn whole(&self, code: StatusCode, json: Bytes) -> Result<Response<ResponseBody>, ApiError> {
        let pieces = Box::new(std::iter::once(Ok(self.reformat(json)?)));
        self.send(code, pieces)
    }

    fn reformat(&self, json: Bytes) -> Result<Bytes, ApiError> {
        if self.wanted.format == Format::Json && !self.pretty {
            return Ok(json);
        }
        let value: Value = serde_json::from_slice(&json)
            .map_err(|error| ApiError::internal(format!("cannot encode the answer: {error}")))?;
        text(&value, self.wanted.format, self.pretty)
    }

    fn send(&self, code: StatusCode, pieces: Pieces) -> Result<Response<ResponseBody>, ApiError> {
        let (body, gzip) = body::assemble(pieces, self.gzip)?;
        let mut response = response(code, self.wanted.format.essence(), ResponseBody::from(Bytes::new()));
        *response.body_mut() = body;
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        Ok(response)
    }

    /// A list, encoded item by item as the client reads it.
    fn list(&self, list: List) -> Result<Response<ResponseBody>, ApiError> {
        let metadata = ListMeta {
            resource_version: (!list.resource_version.is_empty()).then_some(list.resource_version),
            continue_: list.continue_token,
            remaining_item_count: list.remaining.and_then(|count| i64::try_from(count).ok()),
            ..ListMeta::default()
        };
        let metadata =
            serde_json::to_value(metadata).map_err(|error| ApiError::internal(error.to_string()))?;
        let (mut head, array) = match self.wanted.shape {
            Shape::Whole => {
                (json!({"kind": list.kind, "apiVersion": list.api_version, "metadata": metadata}), "items")
            }
            Shape::Metadata => (
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                }),
                "items",
            ),
            Shape::Table => (self.table().render(metadata, Vec::new(), true), "rows"),
        };
        if let Some(head) = head.as_object_mut() {
            head.remove(array);
        }
        let mut head = json_text(&head)?.to_vec();
        // `{...}` becomes `{...,"items":[`, to which the items and `]}` are added.
        head.pop();
        head.extend_from_slice(format!(",\"{array}\":[").as_bytes());

        let renderer = self.clone();
        let table = self.table();
        let items = list.items.into_iter().enumerate().map(move |(index, object)| {
            let text = match renderer.wanted.shape {
                Shape::Table => json_text(&renderer.row(&table, &object)?)?,
                _ => renderer.object(&object)?,
            };
            if index == 0 {
                return Ok(text);
            }
            let mut piece = BytesMut::with_capacity(text.len() + 1);
            piece.put_u8(b',');
            piece.extend_from_slice(&text);
            Ok(piece.freeze())
        });
        let head = std::iter::once(Ok(Bytes::from(head)));
        let pieces: Pieces =
            Box::new(head.chain(items).chain(std::iter::once(Ok(Bytes::from_static(b"]}")))));
        if self.wanted.format == Format::Json && !self.pretty {
            return self.send(StatusCode::OK, pieces);
        }
        let whole = pieces.collect::<Result<Vec<_>, _>>()?.concat();
        self.whole(StatusCode::OK, whole.into())
    }
}
