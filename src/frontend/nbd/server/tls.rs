//! What connections are encrypted with: a certificate and its key, from PEM files.

use crate::error::{Error, Kind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::path::Path;
use std::sync::Arc;

/// Who the server is, and whom it lets in.
#[derive(Clone)]
pub struct Certificates {
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads PEM files: the server's certificates, its own first, and its key; where `clients` is given, only clients
    /// with a certificate that one of those in there has signed are let in.
    ///
    /// # Errors
    /// [`Kind::Io`] for a file that cannot be read, [`Kind::Refused`] for one that is not what it should be.
    pub fn read(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Certificates> {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| refused(certificate, &error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in chain(path)? {
                    roots.add(root).map_err(|error| refused(path, &error))?;
                }
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| refused(path, &error))?)
            }
        };
        let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| refused(key, &error))?;
        let config = builder.with_single_cert(chain(certificate)?, secret);
        Ok(Certificates { config: Arc::new(config.map_err(|error| refused(certificate, &error))?) })
    }

    pub(super) fn session(&self) -> std::result::Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.config.clone())
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = bytes(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(refused(path, &"no certificate is in there")),
        Err(error) => Err(refused(path, &error)),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io(format!("{}: {error}", path.display())))
}

fn refused(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Refused, format!("{}: {error}", path.display()))
}
