//! TLS to a collector: verified by a file's certificates or by this machine's, and if asked with certificates of our own.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, OtlpProtocol, OtlpSettings};

/// What the settings come to. Reads files.
pub(super) fn config(settings: &OtlpSettings) -> Result<Arc<ClientConfig>, Error> {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Path::new(&settings.endpoint), &error))?
        .with_root_certificates(roots(settings.certificate.as_deref())?);
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let own = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder
                .with_client_auth_cert(certificates(chain)?, own)
                .map_err(|error| unusable(chain, &error))?
        }
    };
    config.alpn_protocols = match settings.protocol {
        OtlpProtocol::Grpc => vec![b"h2".to_vec()],
        OtlpProtocol::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        return match added {
            0 => Err(unusable(
                Path::new("this machine's certificates"),
                &"there are none; name a file by OTEL_EXPORTER_OTLP_CERTIFICATE",
            )),
            _ => Ok(roots),
        };
    };
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unusable(file, &error))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = read.map_err(|error| unusable(file, &error))?;
    match all.is_empty() {
        true => Err(unusable(file, &"it holds no certificate")),
        false => Ok(all),
    }
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Certificate {
        file: file.to_owned(),
        why: why.to_string(),
    }
}
