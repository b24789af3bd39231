//! Continue tokens: where a page ended, and in which state. Opaque to clients.

use serde::{Deserialize, Serialize};

use rkube_store::{Key, Prefix, Revision};

use crate::error::ApiError;

/// The place after which the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The state that all pages show; `None` goes on in the newest state, as after an expiry.
    pub(super) revision: Option<Revision>,
    /// The last key of the page before.
    pub(super) after: Key,
    /// How many come behind it in that state, so that nobody has to count them again.
    pub(super) remaining: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u8,
    rv: i64,
    start: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
}

impl Token {
    /// The token as text; the key is told relative to the folder that was listed.
    pub(super) fn encode(&self, folder: &Prefix) -> Result<String, ApiError> {
        let start = self.after.as_str().strip_prefix(folder.as_str()).unwrap_or_default().to_owned();
        let rv = self.revision.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(-1));
        let text = serde_json::to_vec(&Wire { v: 1, rv, start, remaining: self.remaining })
            .map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(to_hex(&text))
    }

    /// Reads a token that was given for the same folder.
    pub(super) fn decode(text: &str, folder: &Prefix) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("continue key is not valid");
        let bytes = from_hex(text).ok_or_else(invalid)?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if wire.v != 1
            || wire.rv == 0
            || wire.start.is_empty()
            || wire.start.split('/').any(|part| part == "..")
        {
            return Err(invalid());
        }
        let revision = u64::try_from(wire.rv).ok().map(Revision);
        let after = Key::new(format!("{}{}", folder.as_str(), wire.start));
        Ok(Self { revision, after, remaining: wire.remaining.filter(|_| revision.is_some()) })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let folder = Prefix::new("/registry/pods/");
        for (revision, remaining) in [(None, None), (Some(Revision(7)), None), (Some(Revision(7)), Some(9))] {
            let token = Token { revision, after: Key::new("/registry/pods/default/a"), remaining };
            assert_eq!(Token::decode(&token.encode(&folder).unwrap(), &folder).unwrap(), token);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = Token::decode(&text, &Prefix::new("/registry/pods/"));
        }
    }
}
