//! Certificates: a self-made authority, the server's certificate, the clients' certificates and the
//! kubeconfig that carries them.
//!
//! Who a client certificate stands for: common name is the user, organizations are the groups.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates>

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName as Name, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    time_provider::TimeProvider,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_saphyr::SerializerOptions;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{context::Clock, request::Credentials};

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate's text is not PEM.
    #[error("certificate: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// TLS cannot be set up with the certificates.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// More groups than a certificate made here can carry.
    #[error("a certificate made here carries at most two groups, not {0}")]
    Groups(usize),
    /// Client certificates cannot be verified with the authority.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate with its key, both PEM. The `Debug` form hides the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

/// A certificate authority of our own, which signs the server and its clients.
///
/// ```
/// use rkube_api::{context::Clock, http::Authority};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let authority = Authority::new(&Clock::system()).unwrap();
/// let admin = authority.client("kubernetes-admin", &["system:masters"]).unwrap();
/// assert!(admin.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
/// // A restarted server goes on with the authority that its clients know.
/// let again = Authority::from_identity(authority.identity(), &Clock::system()).unwrap();
/// assert_eq!(again.certificate(), authority.certificate());
/// # });
/// ```
pub struct Authority {
    identity: Identity,
    issuer: Issuer<'static, KeyPair>,
    clock: Clock,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// How long certificates hold: the cluster's whole life, as nobody renews them yet.
const YEARS: i16 = 10;

fn provider() -> Arc<CryptoProvider> {
    // Passed explicitly: a host program may have installed another as the process' default.
    Arc::new(aws_lc_rs::default_provider())
}

/// Certificates begin a day early, for clients whose clocks are behind.
fn validity(params: &mut CertificateParams, clock: &Clock) {
    let now = clock.timestamp();
    let day = jiff::SignedDuration::from_hours(24);
    let from = now.checked_sub(day).unwrap_or(now).to_zoned(jiff::tz::TimeZone::UTC).date();
    let month = from.month().unsigned_abs();
    // A 29th of February has no like in most years.
    let day = from.day().unsigned_abs().min(28);
    params.not_before = rcgen::date_time_ymd(from.year().into(), month, day);
    params.not_after = rcgen::date_time_ymd((from.year() + YEARS).into(), month, day);
}

/// The object identifier of an organization's name, for the second one: a `DistinguishedName` holds one
/// value a key.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

fn names(common_name: &str, organizations: &[&str]) -> Result<DistinguishedName, TlsError> {
    let mut names = DistinguishedName::new();
    match organizations {
        [] => {}
        [group] => names.push(DnType::OrganizationName, *group),
        [first, second] => {
            names.push(DnType::OrganizationName, *first);
            names.push(DnType::CustomDnType(ORGANIZATION.to_vec()), *second);
        }
        _ => return Err(TlsError::Groups(organizations.len())),
    }
    names.push(DnType::CommonName, common_name);
    Ok(names)
}

impl Authority {
    /// A new authority with a new key.
    pub fn new(clock: &Clock) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = names("kubernetes", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, clock);
        let certificate = params.self_signed(&key)?.pem();
        let identity = Identity { certificate, key: key.serialize_pem() };
        Ok(Self { identity, issuer: Issuer::new(params, key), clock: clock.clone() })
    }

    /// The authority whose certificate and key were kept.
    pub fn from_identity(identity: &Identity, clock: &Clock) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(&identity.key)?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate, key)?;
        Ok(Self { identity: identity.clone(), issuer, clock: clock.clone() })
    }

    /// The authority's own certificate and key, to be kept.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The authority's certificate, which clients trust.
    pub fn certificate(&self) -> &str {
        &self.identity.certificate
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, &self.clock);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A client's certificate: its user and its groups, two at most.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = names(user, groups)?;
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The server's certificate: for the names by which clients in and out of the cluster reach it, and
    /// those given besides.
    pub fn server(&self, addresses: &[String]) -> Result<Identity, TlsError> {
        let mut reached: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            "::1",
            "10.96.0.1",
        ]
        .map(str::to_owned)
        .to_vec();
        for address in addresses {
            let any = address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
            if !any && !reached.contains(address) {
                reached.push(address.clone());
            }
        }
        let mut params = CertificateParams::new(reached)?;
        params.distinguished_name = names("kube-apiserver", &[])?;
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// TLS for a server with this certificate. Clients may show a certificate; of one that this authority
    /// has not signed the requests are answered with 401.
    pub fn server_config(&self, server: &Identity) -> Result<ServerTls, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate().as_bytes())?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()?;
        let chain =
            CertificateDer::pem_slice_iter(server.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from_pem_slice(server.key.as_bytes())?);
        let time = ClockTime(self.clock.clone());
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(time.clone()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(Later(verifier.clone())))
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls { config: Arc::new(config), verifier, time })
    }
}

/// What a server needs to speak TLS and to know its clients.
///
/// Kubernetes asks for a client's certificate without requiring one, and tells whose certificate is wrong
/// with a 401 that they can read. So the handshake takes any certificate whose key the client holds, and
/// whether it stands for anybody is found out afterwards; the two cannot be had one without the other.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    time: ClockTime,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Who the certificates of a handshake stand for, the client's own first.
    pub(super) fn peer(&self, shown: Option<&[CertificateDer<'_>]>) -> Peer {
        let Some((own, between)) = shown.and_then(<[_]>::split_first) else { return Peer::Nobody };
        let verified =
            self.time.current_time().map(|now| self.verifier.verify_client_cert(own, between, now));
        match verified {
            Some(Ok(_)) => credentials(own).map_or(Peer::Unverified, Peer::Verified),
            Some(Err(error)) => {
                tracing::debug!(%error, "a client's certificate cannot be verified");
                Peer::Unverified
            }
            None => Peer::Unverified,
        }
    }
}

/// Whom a connection vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// No certificate was shown.
    Nobody,
    /// One was shown that stands for nobody here.
    Unverified,
    /// A user.
    Verified(Credentials),
}

/// Leaves it for after the handshake whether a certificate is one of ours. That the client holds its key is
/// checked at once.
#[derive(Debug)]
struct Later(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Later {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[Name] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Certificates are checked against the context's clock.
#[derive(Clone, Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.timestamp().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// The user that a verified certificate stands for; none if it names nobody.
fn credentials(certificate: &CertificateDer<'_>) -> Option<Credentials> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
    let common_name = subject.iter_common_name().find_map(text)?;
    let organizations = subject.iter_organization().filter_map(text).collect();
    Some(Credentials::Certificate { common_name, organizations })
}

/// What `kubectl` needs to reach a server as a user.
///
/// ```
/// use rkube_api::{context::Clock, http::{Authority, Kubeconfig}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let authority = Authority::new(&Clock::system()).unwrap();
/// let config = Kubeconfig {
///     cluster: "rkube".into(),
///     user: "admin".into(),
///     server: "https://127.0.0.1:6443".into(),
///     authority: authority.certificate().into(),
///     identity: authority.client("admin", &["system:masters"]).unwrap(),
/// };
/// assert!(config.to_yaml().contains("current-context: admin@rkube"));
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The cluster's name in the file.
    pub cluster: String,
    /// The user's name in the file.
    pub user: String,
    /// `https://host:port`.
    pub server: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The user's certificate and key.
    pub identity: Identity,
}

impl Kubeconfig {
    /// The file's text, with the certificates in it. It holds a private key.
    pub fn to_yaml(&self) -> String {
        // ByteString's JSON form is base64.
        let data = |pem: &str| ByteString(pem.as_bytes().to_vec());
        let context = format!("{}@{}", self.user, self.cluster);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": self.cluster,
                "cluster": {
                    "server": self.server,
                    "certificate-authority-data": data(&self.authority),
                },
            }],
            "users": [{
                "name": self.user,
                "user": {
                    "client-certificate-data": data(&self.identity.certificate),
                    "client-key-data": data(&self.identity.key),
                },
            }],
            "contexts": [{
                "name": context,
                "context": {"cluster": self.cluster, "user": self.user},
            }],
            "current-context": context,
        });
        // One line a certificate, as other tools write the file.
        let mut options = SerializerOptions::default();
        options.prefer_block_scalars = false;
        serde_saphyr::to_string_with_options(&config, options).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_certificate_names_a_user_and_its_groups() {
        let clock = Clock::simulated();
        let authority = Authority::new(&clock).unwrap();
        let client = authority.client("jane", &["dev", "ops"]).unwrap();
        let certificate = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
        assert_eq!(
            credentials(&certificate),
            Some(Credentials::Certificate {
                common_name: "jane".into(),
                organizations: vec!["dev".into(), "ops".into()]
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_authority_has_signed_stands_for_somebody() {
        let clock = Clock::simulated();
        let authority = Authority::new(&clock).unwrap();
        let tls = authority.server_config(&authority.server(&[]).unwrap()).unwrap();
        let der =
            |identity: &Identity| CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let own = der(&authority.client("jane", &[]).unwrap());
        let jane = Credentials::Certificate { common_name: "jane".into(), organizations: Vec::new() };
        assert_eq!(tls.peer(Some(std::slice::from_ref(&own))), Peer::Verified(jane));
        assert_eq!(tls.peer(None), Peer::Nobody);
        assert_eq!(tls.peer(Some(&[])), Peer::Nobody);
        // Another authority of the same name, its own certificate behind it or not.
        let other = Authority::new(&clock).unwrap();
        let foreign = der(&other.client("jane", &["system:masters"]).unwrap());
        assert_eq!(tls.peer(Some(std::slice::from_ref(&foreign))), Peer::Unverified);
        assert_eq!(tls.peer(Some(&[foreign.clone(), der(other.identity())])), Peer::Unverified);
        assert_eq!(tls.peer(Some(&[foreign, own.clone()])), Peer::Unverified);
        // A server's certificate is no client's, and nothing holds for ever.
        assert_eq!(tls.peer(Some(&[der(&authority.server(&[]).unwrap())])), Peer::Unverified);
        tokio::time::advance(std::time::Duration::from_secs(11 * 366 * 24 * 3600)).await;
        assert_eq!(tls.peer(Some(&[own])), Peer::Unverified);
    }

    #[tokio::test]
    async fn a_kept_authority_signs_for_the_same_root() {
        let clock = Clock::simulated();
        let first = Authority::new(&clock).unwrap();
        let again = Authority::from_identity(first.identity(), &clock).unwrap();
        let server = again.server(&["10.1.2.3".into(), "0.0.0.0".into(), "api.example".into()]).unwrap();
        assert!(first.server_config(&server).is_ok());
        let config = Kubeconfig {
            cluster: "c".into(),
            user: "u".into(),
            server: "https://127.0.0.1:1".into(),
            authority: first.certificate().into(),
            identity: again.client("u", &[]).unwrap(),
        };
        let text = config.to_yaml();
        assert!(text.contains("certificate-authority-data: LS0t"), "{text}");
        assert!(!format!("{config:?}").contains("PRIVATE"));
    }
}
