//! Media types: what a client accepts, and which of it we serve.
//!
//! Semantics: <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use crate::error::ApiError;

/// One range of an `Accept` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) essence: String,
    pub(super) params: Vec<(String, String)>,
    /// Thousandths.
    quality: u16,
}

impl Range {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the range takes in `essence`, a type and subtype.
    pub(super) fn covers(&self, essence: &str) -> bool {
        self.essence == "*/*"
            || self.essence == essence
            || self
                .essence
                .strip_suffix("/*")
                .is_some_and(|main| essence.strip_prefix(main).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// The ranges of an `Accept` header, the most welcome first; those of quality 0 are left out.
pub(super) fn ranges(accept: &str) -> Vec<Range> {
    let mut ranges: Vec<Range> =
        accept.split(',').filter_map(range).filter(|range| range.quality > 0).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.quality));
    ranges
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().filter(|essence| !essence.is_empty())?.to_ascii_lowercase();
    let mut quality = 1000;
    let mut params = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        if key == "q" {
            let wish = value.parse::<f32>().ok().filter(|wish| (0.0..=1.0).contains(wish))?;
            // In 0..=1000 by the check above.
            quality = (wish * 1000.0).round() as u16;
        } else if !key.is_empty() {
            params.push((key, value.to_owned()));
        }
    }
    Some(Range { essence, params, quality })
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    Json,
    Yaml,
}

impl Format {
    pub(super) const ALL: [Self; 2] = [Self::Json, Self::Yaml];

    pub(super) fn essence(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// As what an object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// As it is.
    #[default]
    Whole,
    /// As rows of its kind's table.
    Table,
    /// Its metadata alone.
    Metadata,
}

/// What a response is going to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) format: Format,
    pub(super) shape: Shape,
}

/// What a resource's response can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// One object.
    One,
    /// A list.
    Many,
    /// A watch.
    Stream,
}

/// What to send to a client that accepts `accept`.
pub(super) fn negotiate(accept: Option<&str>, answer: Answer) -> Result<Wanted, ApiError> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(Wanted::default());
    };
    for range in ranges(accept) {
        // A watch is framed JSON; other formats have no frames here.
        let formats = if answer == Answer::Stream { &Format::ALL[..1] } else { &Format::ALL[..] };
        let format = formats.iter().copied().find(|format| {
            range.covers(format.essence()) || (*format == Format::Yaml && range.covers("text/yaml"))
        });
        if let (Some(format), Some(shape)) = (format, shape(&range, answer)) {
            return Ok(Wanted { format, shape });
        }
    }
    Err(not_acceptable())
}

fn shape(range: &Range, answer: Answer) -> Option<Shape> {
    let Some(wish) = range.param("as") else {
        return Some(Shape::Whole);
    };
    if range.param("g") != Some("meta.k8s.io") || range.param("v") != Some("v1") {
        return None;
    }
    match (wish, answer) {
        ("Table", _) => Some(Shape::Table),
        ("PartialObjectMetadata", Answer::One | Answer::Stream) => Some(Shape::Metadata),
        ("PartialObjectMetadataList", Answer::Many) => Some(Shape::Metadata),
        _ => None,
    }
}

/// 406, with what we serve.
pub(super) fn not_acceptable() -> ApiError {
    ApiError::NotAcceptable {
        supported: Format::ALL.iter().map(|format| format.essence().to_owned()).collect(),
    }
}

/// The type and subtype of a `Content-Type`, in lower case.
pub(super) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_range_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = Wanted { format: Format::Json, shape: Shape::Table };
        assert_eq!(negotiate(Some(kubectl), Answer::Many).unwrap(), table);
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(Some(old), Answer::Many).unwrap(), Wanted::default());
        let proto = "application/vnd.kubernetes.protobuf, application/yaml";
        assert_eq!(negotiate(Some(proto), Answer::One).unwrap().format, Format::Yaml);
        assert!(negotiate(Some("application/vnd.kubernetes.protobuf"), Answer::One).is_err());
        assert_eq!(negotiate(None, Answer::One).unwrap(), Wanted::default());
        assert_eq!(negotiate(Some("*/*"), Answer::One).unwrap(), Wanted::default());
        assert_eq!(
            negotiate(Some("application/json;q=0.1,application/yaml"), Answer::One).unwrap().format,
            Format::Yaml
        );
    }

    #[test]
    fn metadata_of_lists_and_of_objects_are_two_names() {
        let list = Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        let one = Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        assert_eq!(negotiate(list, Answer::Many).unwrap().shape, Shape::Metadata);
        assert_eq!(negotiate(one, Answer::Stream).unwrap().shape, Shape::Metadata);
        assert!(negotiate(list, Answer::One).is_err());
        assert!(negotiate(one, Answer::Many).is_err());
    }

    #[test]
    fn a_watch_is_json() {
        assert!(negotiate(Some("application/yaml"), Answer::Stream).is_err());
        assert!(negotiate(Some("application/json;stream=watch"), Answer::Stream).is_ok());
    }
}
