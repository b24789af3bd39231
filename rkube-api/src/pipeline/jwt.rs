//! JSON Web Tokens, signed and verified with one key by one algorithm, ES256. <https://www.rfc-editor.org/rfc/rfc7519>

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::ApiError;

const ALGORITHM: &str = "ES256";

/// A private key as it is kept: PKCS #8.
#[derive(Serialize, Deserialize)]
pub(super) struct SecretKey {
    pkcs8: k8s_openapi::ByteString,
}

impl SecretKey {
    /// A new one, from the system's randomness: who has seen some of what a seed gives could work out the
    /// rest.
    pub(super) fn generate() -> Result<Self, ApiError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = pair.and_then(|pair| pair.to_pkcs8v1()).map_err(|error| ApiError::Unavailable {
            message: format!("no key for tokens can be made: {error}"),
        })?;
        Ok(Self { pkcs8: k8s_openapi::ByteString(pkcs8.as_ref().to_vec()) })
    }
}

/// Signs and verifies.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    /// The public key's digest.
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

fn encode(part: &impl Serialize) -> Result<String, ApiError> {
    let text = serde_json::to_vec(part)
        .map_err(|error| ApiError::internal(format!("a token cannot be written: {error}")))?;
    Ok(BASE64.encode(text))
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
}

impl Signer {
    pub(super) fn new(key: &SecretKey) -> Result<Self, ApiError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.pkcs8.0)
            .map_err(|error| ApiError::internal(format!("the key of tokens cannot be used: {error}")))?;
        let id = BASE64.encode(digest(&SHA256, pair.public_key().as_ref()));
        Ok(Self { pair, id })
    }

    /// The token with these claims.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, ApiError> {
        let header = Header { alg: ALGORITHM.into(), kid: self.id.clone() };
        let signed = format!("{}.{}", encode(&header)?, encode(claims)?);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|error| ApiError::internal(format!("a token cannot be signed: {error}")))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// Whether this key has signed it. What the claims say is not looked at.
    pub(super) fn has_signed(&self, token: &str) -> bool {
        let check = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let header: Header = decode(signed.split_once('.')?.0)?;
            let signature = BASE64.decode(signature).ok()?;
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
            let is_ours = header.alg == ALGORITHM && header.kid == self.id;
            (is_ours && public.verify(signed.as_bytes(), &signature).is_ok()).then_some(())
        };
        check().is_some()
    }
}

/// What a token claims, whoever has signed it; nothing if it is no token of this kind.
pub(super) fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() { None } else { decode(claims) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_the_key_has_signed_is_good() {
        let signers = [(); 2].map(|()| Signer::new(&SecretKey::generate().unwrap()).unwrap());
        let said = json!({"sub": "me", "n": 1});
        let token = signers[0].sign(&said).unwrap();
        assert_eq!(claims::<Value>(&token), Some(said));
        assert!(signers[0].has_signed(&token));
        assert!(!signers[1].has_signed(&token), "another key");
        let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let other = encode(&json!({"sub": "root", "n": 1})).unwrap();
        assert!(!signers[0].has_signed(&format!("{header}.{other}.{signature}")), "other claims");
        let none = encode(&json!({"alg": "none", "kid": signers[0].id})).unwrap();
        assert!(!signers[0].has_signed(&format!("{none}.{other}.")), "another algorithm");
        for wrong in ["", ".", "..", "...", "a.b.c", &token[1..], &token[..token.len() - 1]] {
            assert!(!signers[0].has_signed(wrong), "{wrong}");
        }
        for wrong in ["", "a", "a.b", ".e30.e30.", "a.b.c"] {
            assert_eq!(claims::<Value>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_kept_key_is_the_same_key() {
        let key = SecretKey::generate().unwrap();
        let text = serde_json::to_string(&key).unwrap();
        let token = Signer::new(&key).unwrap().sign(&json!({})).unwrap();
        let again: SecretKey = serde_json::from_str(&text).unwrap();
        assert!(Signer::new(&again).unwrap().has_signed(&token));
    }
}
