//! Serves the page on 127.0.0.1.

use std::{io::ErrorKind, path::PathBuf};

use anyhow::{Context, Result, bail};
use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tower_http::services::ServeDir;

use crate::{command::say, dist};

/// How `serve` serves.
#[derive(clap::Args)]
pub struct Options {
    /// Port; when it is taken, the next free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Send no isolation headers, like a static host: the service worker adds them, or the engine runs with one thread
    #[arg(long)]
    no_isolation: bool,
    /// Serve this folder as it is, building nothing
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// The headers that make the page cross-origin isolated, which threads (`SharedArrayBuffer`) need.
const ISOLATION: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// The same policy as in `index.html` and `www/sw.js` (a test compares them). A worker is bound by its own response's policy.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; \
                      connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'";

/// Builds the page and serves it until stopped.
pub fn serve(options: &Options) -> Result<()> {
    let folder = match &options.dir {
        Some(folder) if !folder.is_dir() => bail!("{} is not a folder", folder.display()),
        Some(folder) => folder.clone(),
        None => {
            dist::build()?;
            PathBuf::from(dist::DIST)
        }
    };
    let isolate = !options.no_isolation;
    let page = Router::new().fallback_service(ServeDir::new(&folder)).layer(map_response(move |response| answer(response, isolate)));
    Runtime::new()?.block_on(async {
        let listener = listen(options.port).await?;
        let headers = if isolate { "" } else { ", without isolation headers" };
        say(&format!("{}{headers}: http://{}/", folder.display(), listener.local_addr()?));
        Ok(axum::serve(listener, page).await?)
    })
}

/// The port, or the next free one.
async fn listen(mut port: u16) -> Result<TcpListener> {
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && port < u16::MAX => port += 1,
            listener => return listener.with_context(|| format!("127.0.0.1:{port}")),
        }
    }
}

/// What is sent: the answer with the headers of ours, and without those by which it would be asked for again: a 304 keeps the headers of the stored
/// response, so a page once served with isolation would stay isolated without.
async fn answer(mut response: Response, isolate: bool) -> Response {
    let headers = response.headers_mut();
    headers.remove(header::ETAG);
    headers.remove(header::LAST_MODIFIED);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if isolate {
        for (name, value) in ISOLATION {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    response
}
