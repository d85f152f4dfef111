//! Serves the page on 127.0.0.1.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use rouille::{Request, Response, Server};

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
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
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
    let mut port = options.port;
    let server = loop {
        let folder = folder.clone();
        match Server::new(("127.0.0.1", port), move |request| answer(request, &folder, isolate)) {
            Ok(server) => break server,
            Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(ErrorKind::AddrInUse) if port < u16::MAX => port += 1,
                _ => return Err(anyhow!("127.0.0.1:{port}: {error}")),
            },
        }
    };
    let headers = if isolate { "" } else { ", without isolation headers" };
    say(&format!("{}{headers}: http://{}/", folder.display(), server.server_addr()));
    server.run();
    Ok(())
}

/// A file of the folder. rouille refuses paths that lead out of it.
fn answer(request: &Request, folder: &Path, isolate: bool) -> Response {
    if !matches!(request.method(), "GET" | "HEAD") {
        return Response::text("only GET and HEAD").with_status_code(405);
    }
    let url = request.url();
    let index = url.ends_with('/').then(|| Request::fake_http("GET", format!("{url}index.html"), vec![], vec![]));
    let mut response = rouille::match_assets(index.as_ref().unwrap_or(request), folder);
    // A 304 keeps the headers of the stored response, so a page once served with isolation would stay isolated without.
    response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("ETag"));
    if url.ends_with(".webmanifest") && response.is_success() {
        response = response.with_unique_header("Content-Type", "application/manifest+json");
    }
    response = response.with_unique_header("Cache-Control", "no-cache").with_unique_header("X-Content-Type-Options", "nosniff");
    if isolate {
        for (name, value) in ISOLATION.into_iter().chain([("Content-Security-Policy", POLICY)]) {
            response = response.with_unique_header(name, value);
        }
    }
    response
}
