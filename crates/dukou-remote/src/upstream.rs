//! What is asked for, and where: everything of a remote model that is known before anybody answered.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Signature};
use dukou_wire::{Named, Page, Peer, grpc};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
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
    /// What its servers speak.
    pub peer: Peer,
    /// What it takes and gives, where they are not asked for it.
    pub signature: Option<Signature>,
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

impl Spec {
    /// A model of this name, asked of servers of dukou's at these addresses.
    pub fn of(model: &str, replicas: Vec<String>) -> Self {
        Self {
            peer: Peer::V2,
            signature: None,
            model: model.to_owned(),
            version: None,
            replicas,
            key_file: None,
            ca_file: None,
            health: Duration::from_millis(200),
            retry_percent: 20,
        }
    }
}

/// A remote model's replicas and how they are asked.
#[derive(Debug)]
pub struct Upstream {
    /// How often they are looked at.
    pub health: Duration,
    /// What they speak.
    pub peer: Peer,
    /// What the model takes and gives, where they are not asked for it.
    pub declared: Option<Signature>,
    model: String,
    version: Option<String>,
    /// The key that is shown to them.
    pub key: Option<KeyFile>,
    /// Where it is served.
    pub replicas: Box<[Arc<Replica>]>,
}

impl Upstream {
    /// Takes the addresses apart and reads the files.
    ///
    /// # Errors
    /// `deploy.invalid`: an address or a file is no use, or the dialect lacks what is asked for.
    pub fn new(spec: &Spec) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(ErrorCode::DeployInvalid, why);
        let peer = spec.peer;
        if spec.signature.is_none() && !peer.tells_signatures() {
            return Err(invalid(untold(peer)));
        }
        let named = Named { model: &spec.model, version: spec.version.as_deref() };
        let path = peer.infer_path(named).map_err(invalid)?;
        let trusted = spec.ca_file.as_deref().map(|file| trusting(file, peer.is_grpc()));
        let trusted = trusted.transpose().map_err(invalid)?;
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
            let infer = uri_of(&address, &path, peer)?;
            Ok(Arc::new(Replica::new(address, tls, infer, peer.is_grpc())))
        });
        let replicas = replicas.collect::<Result<_, String>>().map_err(invalid)?;
        let key = spec.key_file.as_deref().map(KeyFile::open).transpose()?;
        Ok(Self {
            health: spec.health,
            peer,
            declared: spec.signature.clone(),
            model: spec.model.clone(),
            version: spec.version.clone(),
            key,
            replicas,
        })
    }

    /// The model as its servers call it.
    pub fn named(&self) -> Named<'_> {
        Named { model: &self.model, version: self.version.as_deref() }
    }

    /// What is looked at to know what the model takes and gives; none where it was declared.
    pub fn signature_page(&self) -> Option<Page> {
        let asked = self.declared.is_none();
        asked.then(|| self.peer.signature_page(self.named())).flatten()
    }

    /// The revision that a head says. The others have none that callers could be promised.
    pub fn revision<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        if self.peer == Peer::V2 { text(headers, REVISION) } else { None }
    }

    /// The head of every request to this replica.
    pub fn head(&self, method: Method, replica: &Replica, uri: Uri) -> Builder {
        let mut head = Request::builder().uri(uri).method(method);
        if self.peer.is_grpc() {
            if let Some(headers) = head.headers_mut() {
                headers.extend(grpc::call_headers());
            }
        } else {
            head = head.header(HOST, replica.address.authority.clone());
        }
        match &self.key {
            Some(key) => head.header(AUTHORIZATION, key.header()),
            None => head,
        }
    }

    /// A request for something to look at.
    ///
    /// # Errors
    /// The address cannot stand in a request.
    pub fn page(&self, replica: &Replica, page: &Page) -> Result<Request<Full<Bytes>>, String> {
        let uri = uri_of(&replica.address, &page.path, self.peer)?;
        let mut head = self.head(page.method(), replica, uri);
        if page.message.is_some() {
            head = head.header(CONTENT_TYPE, grpc::CONTENT);
        }
        let body = page.message.clone().unwrap_or_default();
        head.body(Full::new(body)).map_err(|error| error.to_string())
    }

    /// The model in a sentence.
    pub fn shown(&self) -> String {
        match (self.peer, self.peer.signature_page(self.named())) {
            (Peer::V2 | Peer::TensorFlow, Some(page)) => {
                page.path.trim_end_matches("/metadata").to_owned()
            }
            _ => self.model.clone(),
        }
    }

    /// The replicas in a sentence.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.replicas.iter().map(|r| format!("`{}`", r.address)).collect();
        names.join(", ")
    }
}

/// Why a model of this dialect has to be declared.
fn untold(peer: Peer) -> String {
    format!(
        "a server of `{}` does not tell what a model takes and gives: declare its `signature`",
        peer.name()
    )
}

/// A path behind an address's own; whole where a connection of HTTP/2 wants to know whom it asks.
fn uri_of(address: &Address, path: &str, peer: Peer) -> Result<Uri, String> {
    let whole = if peer.is_grpc() { &*address.text } else { &*address.base };
    let uri = Uri::try_from(format!("{whole}{path}"));
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
