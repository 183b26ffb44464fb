//! `convert LAYER.tar[.gz|.zst] IMAGE.erofs`: makes one layer and says how long that took, for benchmarks.
//!
//! The digests are worked out before the clock starts: a manifest would have named them.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use plfm_core::digest::Digest;
use plfm_image::Limits;
use plfm_image::layer::{self, Job};
use plfm_image::limits::Budget;
use plfm_image::manifest::Descriptor;
use ring::digest::{Context, SHA256};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { return Err("usage: convert LAYER.tar[.gz|.zst] IMAGE.erofs".into()) };
    let (suffix, diff_id) = match Path::new(from).extension().and_then(|extension| extension.to_str()) {
        Some("gz") => ("+gzip", hash(flate2::read::MultiGzDecoder::new(File::open(from)?))?),
        Some("zst") => ("+zstd", hash(zstd::stream::read::Decoder::new(File::open(from)?)?)?),
        _ => ("", hash(File::open(from)?)?),
    };
    let blob = Descriptor {
        media_type: format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
        digest: hash(File::open(from)?)?,
        size: fs::metadata(from)?.len(),
    };
    let tmp = Path::new(to).parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let started = Instant::now();
    let budget = Arc::new(Budget::new(&Limits::default()));
    let (sink, verdict) = layer::start(Job { blob, diff_id, tmp: tmp.to_owned(), budget });
    let mut source = tokio::fs::File::open(from).await?;
    let send = async move {
        loop {
            let mut chunk = Vec::with_capacity(256 * 1024);
            let read = (&mut source).take(256 * 1024).read_to_end(&mut chunk).await;
            if !matches!(read, Ok(count) if count > 0) || sink.send(Bytes::from(chunk)).await.is_err() {
                return read.map(drop);
            }
        }
    };
    let (sent, layer) = tokio::join!(send, verdict);
    sent?;
    let layer = layer?;
    layer.file.persist(to)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{} bytes, {} entries, {seconds:.3} s", layer.bytes, layer.entries);
    Ok(())
}

fn hash(source: impl Read) -> Result<Digest, Box<dyn Error>> {
    let mut context = Context::new(&SHA256);
    let mut source = BufReader::with_capacity(1 << 20, source);
    let mut chunk = vec![0; 1 << 20];
    loop {
        match source.read(&mut chunk)? {
            0 => return Ok(Digest::from_bytes(context.finish().as_ref().try_into()?)),
            count => context.update(&chunk[..count]),
        }
    }
}
