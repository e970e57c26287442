//! Where a command reads a snapshot from: a file here, or one in an object store.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::Context as _;
use clap::Args;
use tokio::runtime::{Builder, Runtime};

use crate::{
    backup::store::{S3, objects::Access, open_object},
    node::environment,
};

/// How an object store is reached. Its keys are in the environment alone, where no list of processes
/// shows them.
#[derive(Debug, Args)]
pub(super) struct S3Arguments {
    /// The object store, if it is not Amazon's [default: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL].
    #[arg(
        long,
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        env = "MEMORYGATE_BACKUP__S3_ENDPOINT"
    )]
    s3_endpoint: String,
    /// The bucket's region [default: AWS_REGION or AWS_DEFAULT_REGION, else us-east-1].
    #[arg(
        long,
        value_name = "REGION",
        default_value = "",
        hide_default_value = true,
        env = "MEMORYGATE_BACKUP__S3_REGION"
    )]
    s3_region: String,
    /// Take an endpoint of http:// [default: AWS_ALLOW_HTTP].
    #[arg(long, env = "MEMORYGATE_BACKUP__S3_ALLOW_HTTP")]
    s3_allow_http: bool,
}

/// An opened snapshot. An object is fetched as it is read, and never as a whole.
pub(super) struct Source {
    from: Box<dyn Read>,
    /// What fetches it; dropped after it.
    _runtime: Option<Runtime>,
}

impl Source {
    pub(super) fn open(path: &Path, s3: &S3Arguments) -> anyhow::Result<Self> {
        let context = || format!("open {}", path.display());
        let Some(url) = path.to_str().filter(|path| path.starts_with(S3)) else {
            let file = File::open(path).with_context(context)?;
            return Ok(Self {
                from: Box::new(BufReader::new(file)),
                _runtime: None,
            });
        };
        let access = Access {
            endpoint: s3.s3_endpoint.clone(),
            region: s3.s3_region.clone(),
            allow_http: s3.s3_allow_http,
        };
        // It reads ahead while what came is used.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("start threads")?;
        let opened = runtime.block_on(open_object(url, &access, environment()));
        Ok(Self {
            from: opened.with_context(context)?,
            _runtime: Some(runtime),
        })
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.from.read(into)
    }
}
