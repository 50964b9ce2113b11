//! What is asked for, and where: everything of a remote model that is known before anybody answered.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, HOST},
    request::Builder,
};
use http_body_util::Full;

use crate::{
    address::{Address, server_name, trusting},
    key::KeyFile,
    replica::Replica,
};

/// What a table says of a remote model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name at the replicas.
    pub model: String,
    /// The version or alias that is asked for there; none: whichever they choose.
    pub version: Option<String>,
    /// Base addresses.
    pub replicas: Vec<String>,
    /// The file of the key that is shown to them.
    pub key_file: Option<PathBuf>,
    /// The certificates that theirs are checked against.
    pub ca_file: Option<PathBuf>,
    /// How often they are looked at.
    pub health: Duration,
    /// Retries in a hundred requests.
    pub retry_percent: u32,
}

/// A remote model's replicas and how they are asked.
#[derive(Debug)]
pub struct Upstream {
    /// How often they are looked at.
    pub health: Duration,
    /// The model's path at the replicas.
    pub path: String,
    /// The key that is shown to them.
    pub key: Option<KeyFile>,
    /// Where it is served.
    pub replicas: Box<[Arc<Replica>]>,
}

impl Upstream {
    /// Takes the addresses apart and reads the files.
    ///
    /// # Errors
    /// `deploy.invalid`: an address or a file is no use.
    pub fn new(spec: &Spec) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(ErrorCode::DeployInvalid, why);
        let trusted = spec.ca_file.as_deref().map(trusting).transpose().map_err(invalid)?;
        let mut path = format!("/v2/models/{}", spec.model);
        if let Some(version) = &spec.version {
            path += &format!("/versions/{version}");
        }
        let replicas = spec.replicas.iter().map(|text| {
            let address = Address::parse(text)?;
            let tls = match (address.encrypted, &trusted) {
                (false, _) => None,
                (true, Some(config)) => Some((Arc::clone(config), server_name(&address)?)),
                (true, None) => {
                    return Err(format!(
                        "`{text}` speaks TLS: name the certificates that it is checked against with `ca_file`"
                    ));
                }
            };
            let infer = uri_of(&address, &format!("{path}/infer"))?;
            Ok(Arc::new(Replica::new(address, tls, infer)))
        });
        let replicas = replicas.collect::<Result<_, String>>().map_err(invalid)?;
        let key = spec.key_file.as_deref().map(KeyFile::open).transpose()?;
        Ok(Self { health: spec.health, path, key, replicas })
    }

    /// The head of every request to this replica.
    pub fn head(&self, method: Method, replica: &Replica, uri: Uri) -> Builder {
        let head = Request::builder().uri(uri).method(method);
        let head = head.header(HOST, replica.address.authority.clone());
        match &self.key {
            Some(key) => head.header(AUTHORIZATION, key.header()),
            None => head,
        }
    }

    /// A request without a body.
    ///
    /// # Errors
    /// The address cannot stand in a request.
    pub fn get(&self, replica: &Replica, path: &str) -> Result<Request<Full<Bytes>>, String> {
        let head = self.head(Method::GET, replica, uri_of(&replica.address, path)?);
        head.body(Full::default()).map_err(|error| error.to_string())
    }

    /// The replicas in a sentence.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.replicas.iter().map(|r| format!("`{}`", r.address)).collect();
        names.join(", ")
    }
}

/// A path behind an address's own.
fn uri_of(address: &Address, path: &str) -> Result<Uri, String> {
    let uri = Uri::try_from(format!("{}{path}", address.base));
    uri.map_err(|error| format!("`{address}` cannot be asked for `{path}`: {error}"))
}

/// The version that answered.
pub const VERSION: HeaderName = HeaderName::from_static("dukou-version");
/// The revision of the table that chose it.
pub const REVISION: HeaderName = HeaderName::from_static("dukou-revision");

/// A header's text.
pub fn text(headers: &HeaderMap<HeaderValue>, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
