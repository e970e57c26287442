//! `memorygate restore`: a data directory, and with it a new cluster, from a snapshot file.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use memorygate_raft::{
    ClusterId, Statvfs,
    backup::{Restore, Restored, restore},
};
use serde_json::json;

use super::{
    print,
    snapshot::{self, Output, OutputArguments},
    source::{S3Arguments, Source},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The snapshot file, or s3://BUCKET/KEY of one in an object store.
    #[arg(long, value_name = "FILE|URL")]
    from: PathBuf,
    /// Where to: an empty directory, or one that is not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Refuse a snapshot that is not of this cluster.
    #[arg(long, value_name = "ID")]
    cluster_id: Option<ClusterId>,
    #[command(flatten)]
    s3: S3Arguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        from,
        data_dir,
        cluster_id,
        s3,
        output,
    } = arguments;
    let mut source = Source::open(from, s3)?;
    let to = Restore {
        dir: data_dir,
        expected: *cluster_id,
        disk: &Statvfs,
    };
    let restored = restore(&mut source, &to);
    let restored = restored.with_context(|| format!("restore {}", from.display()))?;
    let Restored { identity, manifest } = restored;
    let node_id = format!("{:016x}", identity.node_id);
    match output.output {
        Output::Text => print(&format!(
            "{}restored to  {}\nnew cluster  {}\nnew node     {node_id}\n\nStart it with `memorygate \
             serve`. For more nodes, start this one and empty ones with the same --peers: they join \
             it and become voters by themselves.\n",
            snapshot::text(&manifest),
            data_dir.display(),
            identity.cluster_id,
        )),
        Output::Json => {
            let shown = json!({
                "cluster_id": identity.cluster_id,
                "node_id": node_id,
                "data_dir": data_dir,
                "snapshot": manifest,
            });
            print(&format!("{shown:#}\n"))
        }
    }
}
