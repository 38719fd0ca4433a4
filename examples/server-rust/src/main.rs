//! An example server: matrix products and attention over HTTP, on a GPU or on the emulator.
//!
//! Handlers look at a request; what may take long runs on at most [`THREADS`] blocking threads, which share a [`Pool`] of ops
//! that are ready. `README.md` says what it answers.

mod ops;
mod pool;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use clap::Parser;
use tilewright_emulator_device::{EmulatorDevice, SMS};
use tilewright_runtime::arch::Arch;
use tilewright_runtime::cuda::CudaDevice;
use tilewright_runtime::device::Device;
use tilewright_runtime::engine::{Engine, EngineError};
use tilewright_runtime::pack::Pack;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use ops::{Asks, Attention, Gemm, MOST_BYTES, Refusal};
use pool::Pool;

/// Requests that run at once; more of them wait.
const THREADS: usize = 8;
/// How long a body may take to come, and how long a stop waits for requests under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers GEMM and attention requests.
#[derive(Parser)]
struct Options {
    /// The pack: a folder of kernels-generated, or a pack file.
    #[arg(long)]
    pack: PathBuf,
    /// cuda:N or emulator.
    #[arg(long, default_value = "cuda:0")]
    device: String,
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(THREADS).build()?;
    let pack = Pack::open(&options.pack)?;
    match options.device.split_once(':') {
        None if options.device == "emulator" => {
            let arch: Arch = pack.manifest().arch.parse()?;
            let engine = Engine::new(pack, EmulatorDevice::new(arch.base, 0, SMS))?;
            runtime.block_on(serve(engine, &options))
        }
        Some(("cuda", ordinal)) => runtime.block_on(serve(Engine::new(pack, CudaDevice::open(ordinal.parse()?)?)?, &options)),
        _ => Err(format!("`{}` is no device: expected cuda:N or emulator", options.device).into()),
    }
}

async fn serve<D>(engine: Engine<D>, options: &Options) -> Result<(), Box<dyn Error>>
where
    D: Device + Send + Sync + 'static,
    D::Kernel: Send + Sync,
    D::Buffer: Send,
{
    let health = format!("ok, on {}\n", options.device);
    let router = Router::new()
        .route("/gemm", post(run::<Gemm, D>))
        .route("/attention", post(run::<Attention, D>))
        .route("/health", get(|| async { health }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are POST /gemm, POST /attention and GET /health\n") })
        .with_state(Arc::new(Pool::new(engine)));
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    println!("listening on {}", listener.local_addr()?);

    // No new connections after SIGTERM; a client that stalls may not hold up the end.
    let mut stop = signal(SignalKind::terminate())?;
    let stopping = Arc::new(Notify::new());
    let stopped = Arc::clone(&stopping);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stopped.notified().await });
    let patience = async {
        stop.recv().await;
        stopping.notify_one();
        sleep(PATIENCE).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = patience => Ok(()),
    }
}

/// Answers a request of either op.
async fn run<A, D>(
    State(pool): State<Arc<Pool<D>>>,
    Query(query): Query<A>,
    headers: HeaderMap,
    body: Body,
) -> Result<Vec<u8>, (StatusCode, String)>
where
    A: Asks,
    D: Device + Send + Sync + 'static,
    D::Kernel: Send + Sync,
    D::Buffer: Send,
{
    let ask = query.ask().map_err(refuse)?;
    let body = read(&headers, body, ask.bytes_in).await.map_err(refuse)?;
    let ran = spawn_blocking(move || pool.run(ask.shape, &body)).await;
    // A thread that panicked has lost its op, not the server.
    let ran = ran.map_err(|error| refuse((500, error.to_string())))?;
    ran.map_err(|error| refuse((if matches!(error, EngineError::Select(_)) { 422 } else { 500 }, error.to_string())))
}

/// A body of `expected` bytes. One that announces another length is refused before any of it is read.
async fn read(headers: &HeaderMap, body: Body, expected: u64) -> Result<Bytes, Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        None => return Err((411, "send the body with Content-Length".to_owned())),
        Some(length) if length > MOST_BYTES as u64 => return Err((413, format!("the body has more than {MOST_BYTES} bytes"))),
        Some(length) if length != expected => {
            return Err((400, format!("the body has {length} bytes, the sizes say {expected}")));
        }
        Some(_) => {}
    }
    let body = timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await;
    let body = body.map_err(|_| (408, format!("the body did not come within {} s", PATIENCE.as_secs())))?;
    body.map_err(|error| (400, error.to_string()))
}

fn refuse((status, why): Refusal) -> (StatusCode, String) {
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), why + "\n")
}
