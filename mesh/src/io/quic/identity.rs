//! TLS by raw public keys (RFC 7250): each side shows its node key, without certificates.
//!
//! In: our key. Out: the two halves of rustls' configuration, and a peer's id once a handshake is
//! done. A client demands that the server's key gives the address it dialled; a server learns the
//! key, and its caller compares.
//! Absent: resumption and early data. A connection lives for minutes, a handshake costs a round
//! trip.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use quinn::{
    Connection,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
        SignatureScheme,
        client::{
            AlwaysResolvesClientRawPublicKeys, Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
        pki_types::{
            CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
        },
        server::{
            AlwaysResolvesServerRawPublicKeys,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
        sign::CertifiedKey,
        time_provider::TimeProvider,
        version::TLS13,
    },
};
use zeroize::Zeroizing;

use crate::{
    id::{MeshId, NodeId, overlay_address},
    tunnel::keys::NodeKey,
};

const ALPN: &[u8] = b"outlast/1";
/// What comes before an Ed25519 public key in its DER form (RFC 8410), before a secret key in PKCS
/// #8.
const PUBLIC_DER: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const SECRET_DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// How we answer connections.
pub(super) fn server(key: &NodeKey) -> io::Result<Arc<QuicServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let shown = Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
        key, &provider,
    )?));
    let mut config =
        rustls::ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .with_client_cert_verifier(Arc::new(RawKeys {
                provider,
                mesh: None,
            }))
            .with_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config.try_into().map_err(io::Error::other)?))
}

/// How we open connections in `mesh`.
pub(super) fn client(key: &NodeKey, mesh: MeshId) -> io::Result<Arc<QuicClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let shown = Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(
        key, &provider,
    )?));
    let mut config =
        rustls::ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(RawKeys {
                provider,
                mesh: Some(mesh),
            }))
            .with_client_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config.try_into().map_err(io::Error::other)?))
}

/// Whose key the other side of a finished handshake holds.
pub(super) fn peer(connection: &Connection) -> Option<NodeId> {
    let shown = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    shown.first().and_then(node)
}

fn certified(key: &NodeKey, provider: &CryptoProvider) -> io::Result<Arc<CertifiedKey>> {
    let secret = Zeroizing::new([&SECRET_DER[..], &*key.seed()].concat());
    let borrowed = PrivatePkcs8KeyDer::from(secret.as_slice()).clone_key();
    let signer = provider
        .key_provider
        .load_private_key(borrowed.into())
        .map_err(io::Error::other)?;
    let public = [&PUBLIC_DER[..], &key.public()].concat();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        signer,
    )))
}

/// The node whose public key this is, if it is an Ed25519 key in its one DER form.
fn node(shown: &CertificateDer<'_>) -> Option<NodeId> {
    let key = shown.strip_prefix(&PUBLIC_DER)?;
    Some(NodeId(key.try_into().ok()?))
}

/// Raw keys have no dates, and rustls' own clock panics before 1970.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

/// Checks raw keys; as a client, with the mesh whose addresses they must give.
#[derive(Debug)]
struct RawKeys {
    provider: Arc<CryptoProvider>,
    mesh: Option<MeshId>,
}

impl RawKeys {
    fn signed(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        let schemes = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, schemes)
    }
}

impl ServerCertVerifier for RawKeys {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let node = node(shown).ok_or(CertificateError::BadEncoding)?;
        let given = self.mesh.map(|mesh| overlay_address(&mesh, &node));
        let ServerName::IpAddress(dialled) = dialled else {
            return Err(CertificateError::NotValidForName.into());
        };
        let IpAddr::V6(dialled) = IpAddr::from(*dialled) else {
            return Err(CertificateError::NotValidForName.into());
        };
        if given == Some::<Ipv6Addr>(dialled) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Where the client comes from is not known here; whoever accepts the connection compares.
        let _node = node(shown).ok_or(CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
