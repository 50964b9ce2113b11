//! Every failure that the engine reports, by a stable code.
//!
//! `spec/errors.toml` is the list; a test below proves this table equal to it.

use std::{borrow::Cow, fmt, time::Duration};

/// Whose matter a failure is. Doors choose a status from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// The asker's: the request is wrong.
    Input,
    /// Not now: it would be right at another moment.
    State,
    /// Not allowed, or not genuine.
    Trust,
    /// Not enough of something.
    Resource,
    /// Somebody else's program.
    Remote,
    /// Ours.
    Bug,
}

macro_rules! codes {
    ($($variant:ident, $code:literal, $family:ident, $status:literal, $remedy:literal;)*) => {
        /// A stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "spec/errors.toml says what each means")]
        pub enum ErrorCode { $($variant,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written in answers, logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Whose matter it is.
            pub const fn family(self) -> Family {
                match self { $(Self::$variant => Family::$family,)* }
            }

            /// The HTTP status.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What the asker can do.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

codes! {
    WireInvalidJson, "wire.invalid-json", Input, 400, "Send one JSON object; the message names the byte where reading stopped.";
    WireTooDeep, "wire.too-deep", Input, 400, "Flatten `data`; a flat list with `shape` is always accepted.";
    WireMissingField, "wire.missing-field", Input, 400, "Add the named field.";
    WireInvalidField, "wire.invalid-field", Input, 400, "Correct the named field; the message says what it may be.";
    WireNotANumber, "wire.not-a-number", Input, 400, "Send a finite number within the dtype's range, or use the binary extension.";
    WireUnsupportedDtype, "wire.unsupported-dtype", Input, 400, "Use one of the protocol's dtypes; FP16 and BF16 travel only as binary tensor data.";
    WireShapeOverflow, "wire.shape-overflow", Input, 400, "Send the shape of the data that you send.";
    WireElementCount, "wire.element-count", Input, 400, "Make `data` and `shape` agree.";
    WireUnknownPath, "wire.unknown-path", Input, 404, "`GET /` lists what is served.";
    WireWrongMethod, "wire.wrong-method", Input, 405, "Use the method that the message names.";
    WireUnsupported, "wire.unsupported", Input, 501, "The message says what to use instead.";
    WireInvalidRequest, "wire.invalid-request", Input, 400, "Use an HTTP client.";
    WireInvalidMessage, "wire.invalid-message", Input, 400, "Send the message of the method's `.proto`, from a client made of it.";
    RequestUnknownModel, "request.unknown-model", Input, 404, "`GET /` or `dukou models` lists the names.";
    RequestUnknownVersion, "request.unknown-version", Input, 404, "`GET /v2/models/NAME` lists the versions.";
    RequestUnknownInput, "request.unknown-input", Input, 400, "The message lists the inputs.";
    RequestMissingInput, "request.missing-input", Input, 400, "The message lists the inputs.";
    RequestDuplicateInput, "request.duplicate-input", Input, 400, "Give each input once.";
    RequestUnknownOutput, "request.unknown-output", Input, 400, "The message lists the outputs.";
    RequestWrongDtype, "request.wrong-dtype", Input, 400, "Send the model's dtype; the message has both.";
    RequestWrongShape, "request.wrong-shape", Input, 400, "Send the model's shape; the message has both.";
    RequestRejectedByModel, "request.rejected-by-model", Input, 400, "The message carries the runtime's words.";
    RequestBodyTooLarge, "request.body-too-large", Input, 413, "Send less, or raise the limit that the message names.";
    FormatsNotAModel, "formats.not-a-model", Input, 400, "The message lists the kinds.";
    FormatsCorrupt, "formats.corrupt", Input, 400, "Export or copy it again.";
    FormatsExternalDataOutside, "formats.external-data-outside", Input, 400, "Put the weights beside the model and export it again.";
    FormatsExternalDataMissing, "formats.external-data-missing", Input, 400, "Copy the weights beside the model.";
    FormatsUnsupportedOperator, "formats.unsupported-operator", Input, 400, "Export for the opset that the message names, or update onnxruntime.";
    DeployInvalid, "deploy.invalid", Input, 400, "The message names the field.";
    ServerDraining, "server.draining", State, 503, "Send it to another replica, or try again in a moment.";
    ServerNotReady, "server.not-ready", State, 503, "Try again in a moment.";
    ServerCancelled, "server.cancelled", State, 499, "Nothing to do.";
    TableGoldenMismatch, "table.golden-mismatch", State, 503, "The old table keeps serving; package the version again on this runtime, or look at the differing output that the message names.";
    TableLoadFailed, "table.load-failed", State, 503, "The old table keeps serving; the message says why.";
    TableStale, "table.stale", State, 409, "Compile the deployment again.";
    ServerNoWorker, "server.no-worker", State, 503, "Scale it: `PUT /models/NAME?min_worker=1`, or load it: `POST /v2/repository/models/NAME/load`.";
    ManageNoStore, "manage.no-store", Trust, 403, "Start it with `--model-store FOLDER`, and name files of that folder.";
    ManageNotInStore, "manage.not-in-store", Input, 404, "Put the file into the store, and name it as it is called there; `POST /v2/repository/index` lists what there is.";
    ManageUrlRefused, "manage.url-refused", Trust, 403, "Copy the file into the model store, or `dukou pull` it, and name it there.";
    ManageNoHandler, "manage.no-handler", Input, 400, "Convert the model that is in it to ONNX, and register that file.";
    ManageAlreadyRegistered, "manage.already-registered", State, 409, "Choose another name, or unregister it first.";
    ManageIsDefault, "manage.is-default", State, 409, "Make another version the default first: `PUT /models/NAME/VERSION/set-default`.";
    ManageInUse, "manage.in-use", State, 409, "The message names it: unload that first (Triton's `unload_dependents` does both), or end the rollout.";
    PackageIncomplete, "package.incomplete", State, 503, "Publish or pull the version again.";
    AccessNoKey, "access.no-key", Trust, 401, "Send `Authorization: Bearer KEY`; `dukou predict` takes it from `--key` or DUKOU_KEY.";
    AccessBadKey, "access.bad-key", Trust, 401, "Use a key that `dukou keys list` shows, or ask whoever runs the server for a new one.";
    AccessForbidden, "access.forbidden", Trust, 403, "Use a key with the role that the message names; `dukou keys add` grants it.";
    AccessDeniedAddress, "access.denied-address", Trust, 403, "Connect from an allowed network, or change `--allow` and `--deny`.";
    AccessBadHandshake, "access.bad-handshake", Trust, 403, "Connect with TLS 1.2 or newer.";
    AccessBadCertificate, "access.bad-certificate", Trust, 403, "Put a certificate and its own key in place, in PEM; they are read again at once.";
    AccessForeignHost, "access.foreign-host", Trust, 403, "Use 127.0.0.1 or localhost.";
    AccessForeignOrigin, "access.foreign-origin", Trust, 403, "Call the server from the same origin or from a program.";
    AccessOffLoopback, "access.off-loopback", Trust, 403, "Give TLS and keys: `dukou serve --host` makes both, a container has them mounted; or say `--insecure`.";
    AccessUnreadableKeys, "access.unreadable-keys", State, 503, "Put the document back from a backup; without it no key is good.";
    PackageDigestMismatch, "package.digest-mismatch", Trust, 403, "It was damaged or changed: publish or pull the version again.";
    TrustUnsigned, "trust.unsigned", Trust, 403, "Package it again; `dukou ship` signs.";
    TrustBadSignature, "trust.bad-signature", Trust, 403, "Somebody changed the version or its signature: do not use it.";
    TrustUnknownKey, "trust.unknown-key", Trust, 403, "Add the key's public half to the trust store if you know whose it is.";
    TrustNoEncryptionKey, "trust.no-encryption-key", Trust, 403, "Name the key with `DUKOU_ENCRYPTION_KEY`, or put it back; without it nobody can read what it sealed.";
    TrustWrongEncryptionKey, "trust.wrong-encryption-key", Trust, 403, "Add the key of the first id to the key's source as a second line, then run `dukou encryption rotate`.";
    TrustKeyReadable, "trust.key-readable", Trust, 403, "`chmod 600` the file; where others have read it already, run `dukou encryption rotate`.";
    TrustInvalidEncryptionKey, "trust.invalid-encryption-key", Input, 400, "`dukou encryption new` makes a key; the message names the line, never what it holds.";
    TrustKeyCommandFailed, "trust.key-command-failed", Remote, 502, "Run the command by itself; it must print the key and end within 30 seconds.";
    TrustBadCiphertext, "trust.bad-ciphertext", Trust, 403, "Do not use it; restore it from a backup, or publish or pull the version again.";
    LimitsQueueFull, "limits.queue-full", Resource, 429, "Send less at once, or try again after the time in `Retry-After`.";
    LimitsDeadline, "limits.deadline", Resource, 504, "Allow more time, or send less at once.";
    LimitsRate, "limits.rate", Resource, 429, "Send again after the time in `Retry-After`, or ask for a higher rate.";
    LimitsHeadTooLarge, "limits.head-too-large", Resource, 431, "Send fewer or shorter headers; tensors travel in the body.";
    LimitsSlowHead, "limits.slow-head", Resource, 408, "Send the whole head at once.";
    LimitsSlowBody, "limits.slow-body", Resource, 408, "Send the body as fast as the network takes it, or in smaller requests.";
    LimitsSlowReader, "limits.slow-reader", Resource, 408, "Read answers as they come; a client that must pause long asks on a connection of its own, and again after the pause.";
    LimitsTooManyConnections, "limits.too-many-connections", Resource, 503, "Close some, or raise the limit.";
    ReplicaUnavailable, "replica.unavailable", Remote, 503, "Start one of the servers that the message names, or correct their addresses.";
    ReplicaLost, "replica.lost", Remote, 502, "Try again; if it stays, look at the log of the server that the message names.";
    ReplicaRefused, "replica.refused", Input, 400, "The message carries the other server's words.";
    ReplicaFailed, "replica.failed", Remote, 502, "Look at the log of the server that the message names.";
    ReplicaBehind, "replica.behind", State, 503, "Try again in a moment; `dukou status` shows which revision each replica serves.";
    ReplicaMismatch, "replica.mismatch", Remote, 502, "Serve the same model on every replica; the message has both sides.";
    GraphInvalid, "graph.invalid", Input, 400, "Correct the node that the message names.";
    GraphMismatch, "graph.mismatch", Input, 400, "Connect what fits; the message has both sides.";
    EngineOutOfMemory, "engine.out-of-memory", Resource, 503, "Send smaller batches.";
    EngineTooLittleMemory, "engine.too-little-memory", Resource, 503, "Give the container more memory, or serve a smaller or quantized version.";
    EngineRuntimeMissing, "engine.runtime-missing", Remote, 502, "`pip install onnxruntime`, or name the file with `--runtime`.";
    EdgeNotAFolder, "edge.not-a-folder", Input, 400, "Name a folder that `dukou edge build` made; build it again where a file of it is broken.";
    EdgeBusy, "edge.busy", State, 503, "Stop the other one, or leave it at its work; `run --status` asks it nothing and works meanwhile.";
    EdgeNoRoom, "edge.no-room", Resource, 503, "Free some space or raise the limit; the version before serves on, and the update is tried again by itself.";
    EdgeDisk, "edge.disk", Resource, 503, "Give the agent's user the folder; the version before serves on.";
    RemoteNotFound, "remote.not-found", State, 503, "The message or the hint lists what there is; push it first.";
    RemoteDenied, "remote.denied", Trust, 403, "Say who you are with `--username` and DUKOU_REMOTE_PASSWORD, or by `docker login` or `podman login`.";
    RemoteUnreachable, "remote.unreachable", Remote, 502, "Check address and network; what has arrived already is not sent again.";
    RemoteRefused, "remote.refused", Remote, 502, "The message has its words; its log has more.";
    EngineInternal, "engine.internal", Bug, 500, "Please report it with the request id from the log.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, in two voices.
///
/// `message` is for the caller: one sentence, both sides of a mismatch, nothing of the inside.
/// `detail` is for the log, under the same request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// One sentence for the caller.
    pub message: Cow<'static, str>,
    /// The whole of it, for the log.
    pub detail: Option<Box<str>>,
    /// When it is worth asking again, where that is known.
    pub retry_after: Option<Duration>,
    /// The HTTP status, where another server chose it.
    pub status: Option<u16>,
}

impl Failure {
    /// A failure that tells the caller all there is.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), detail: None, retry_after: None, status: None }
    }

    /// The same, with what only the log should carry.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same, with the status that another server chose.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status: the other server's, or that of the code.
    pub const fn http_status(&self) -> u16 {
        match self.status {
            Some(status) => status,
            None => self.code.http_status(),
        }
    }

    /// The same, with the time after which it is worth asking again.
    #[must_use]
    pub const fn with_retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_in_spec() {
        let text = include_str!("../../../spec/errors.toml");
        let spec: toml::Table = text.parse().unwrap();
        let mut listed: Vec<_> = spec["error"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|e| e["sides"].as_array().unwrap().iter().any(|s| s.as_str() == Some("rust")))
            .map(|e| {
                let family = e["family"].as_str().unwrap();
                let usual = match family {
                    "input" => 400,
                    "state" | "resource" => 503,
                    "trust" => 403,
                    "remote" => 502,
                    _ => 500,
                };
                (
                    e["code"].as_str().unwrap().to_owned(),
                    family.to_owned(),
                    e.get("status").map_or(usual, |s| s.as_integer().unwrap()),
                    e["remedy"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let mut ours: Vec<_> = ErrorCode::ALL
            .iter()
            .map(|c| {
                (
                    c.as_str().to_owned(),
                    format!("{:?}", c.family()).to_lowercase(),
                    i64::from(c.http_status()),
                    c.remedy().to_owned(),
                )
            })
            .collect();
        listed.sort();
        ours.sort();
        assert_eq!(listed, ours);
    }
}
