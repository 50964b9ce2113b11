//! `bench-naive --model FILE --runtime LIB [--name NAME] [--port 0] [--threads N]`: the server that a
//! good engineer writes in an afternoon. hyper, serde_json, one ONNX Runtime session a core, run on
//! the thread that read the request. No batching, no limits, no metrics, no log.
//!
//! One float32 input and one float32 output, in V2's JSON.

use std::{
    cell::Cell,
    convert::Infallible,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bench_reference::flags::Flags;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct InferRequest {
    id: Option<String>,
    inputs: Vec<InputTensor>,
}

#[derive(Deserialize)]
struct InputTensor {
    shape: Vec<i64>,
    datatype: String,
    data: Vec<f32>,
}

#[derive(Serialize)]
struct InferResponse<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: [OutputTensor<'a>; 1],
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [i64],
    data: &'a [f32],
}

/// A session for each thread, and the names that answers carry.
struct Server {
    name: String,
    path: String,
    output: String,
    sessions: Vec<Mutex<Session>>,
    next: AtomicUsize,
}

thread_local! {
    static LANE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Server {
    fn load(flags: &Flags, threads: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let environment = ort::init_from(flags.required("runtime")?)?.build()?;
        let name = flags.text("name", "digits").to_owned();
        let mut sessions = Vec::new();
        let mut output = String::new();
        for _ in 0..threads {
            let session = Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::Level3)?
                .with_intra_threads(1)?
                .commit_from_file(flags.required("model")?)?;
            output = session.outputs()[0].name().to_owned();
            sessions.push(Mutex::new(session));
        }
        let path = format!("/v2/models/{name}/infer");
        Ok(Self { name, path, output, sessions, next: AtomicUsize::new(0) })
    }

    /// The session of the calling thread.
    fn session(&self) -> &Mutex<Session> {
        let lane = LANE.get().unwrap_or_else(|| {
            let lane = self.next.fetch_add(1, Ordering::Relaxed);
            LANE.set(Some(lane));
            lane
        });
        &self.sessions[lane % self.sessions.len()]
    }

    fn infer(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let request: InferRequest = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let [input] = &request.inputs[..] else {
            return Err("one input is expected".into());
        };
        if input.datatype != "FP32" {
            return Err(format!("FP32 is expected, `{}` came", input.datatype));
        }
        let tensor = TensorRef::from_array_view((input.shape.clone(), &input.data[..]))
            .map_err(|e| e.to_string())?;
        let mut session = self.session().lock().map_err(|_| "a run has panicked".to_owned())?;
        let outputs = session.run(ort::inputs![tensor]).map_err(|e| e.to_string())?;
        let (shape, data) = outputs[0].try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
        let response = InferResponse {
            model_name: &self.name,
            model_version: "1",
            id: request.id,
            outputs: [OutputTensor { name: &self.output, datatype: "FP32", shape, data }],
        };
        serde_json::to_vec(&response).map_err(|e| e.to_string())
    }

    async fn reply(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let known = request.uri().path() == self.path;
        let answer = match request.into_body().collect().await {
            _ if !known => Err((StatusCode::NOT_FOUND, "no such path".to_owned())),
            Ok(body) => {
                self.infer(&body.to_bytes()).map_err(|text| (StatusCode::BAD_REQUEST, text))
            }
            Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        };
        let (status, body) = answer.map_or_else(
            |(status, text)| {
                (status, serde_json::json!({ "error": text }).to_string().into_bytes())
            },
            |body| (StatusCode::OK, body),
        );
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-naive: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let known = ["model", "runtime", "name", "port", "threads"];
    let flags = Flags::parse(std::env::args().skip(1), &known)?;
    let cores = std::thread::available_parallelism()?.get();
    let threads = flags.number("threads", cores)?.max(1);
    let server = Arc::new(Server::load(&flags, threads)?);
    let port = u16::try_from(flags.number("port", 0)?)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_io()
        .build()?
        .block_on(accept(server, SocketAddr::from(([127, 0, 0, 1], port))))
}

async fn accept(
    server: Arc<Server>,
    address: SocketAddr,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| Arc::clone(&server).reply(request));
            // A client that went away is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
