//! A network namespace for each node, joined by a bridge that we have an address on too.
//!
//! A link is cut in one direction by telling the sender a wrong hardware address of the receiver:
//! its packets go out and nobody takes them, as on a cut wire. Names carry our process id.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};

/// Several networks of one process get different names and subnets.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Subnets that are looked at for one that is free.
const SUBNETS_MAX: u32 = 250;

/// Belongs to no device.
const NOBODY: &str = "02:00:00:00:00:01";

/// The namespaces of one cluster; removed when dropped.
#[derive(Debug)]
pub struct Namespaces {
    tag: String,
    subnet: [u8; 2],
    count: usize,
    cut: Mutex<Vec<(usize, usize)>>,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // A namespace takes its end of the pair along, and that the other end.
        for at in 0..self.count {
            let _ = ip(&["netns", "del", &self.name(at)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

impl Namespaces {
    pub fn new(count: usize) -> anyhow::Result<Self> {
        ensure!(count <= 200, "{count} nodes, expected at most 200");
        let sequence = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("mj{}x{sequence}", std::process::id());
        let subnet = free_subnet(std::process::id().wrapping_mul(31).wrapping_add(sequence))?;
        let mut made = Self {
            tag,
            subnet,
            count: 0,
            cut: Mutex::default(),
        };
        let bridge = made.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        let host = format!("{}/24", made.host());
        ip(&["addr", "add", &host, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for at in 0..count {
            let name = made.name(at);
            ip(&["netns", "add", &name])?;
            made.count += 1;
            let outside = format!("{}v{at}", made.tag);
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            let address = format!("{}/24", made.address(at));
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(made)
    }

    pub fn name(&self, at: usize) -> String {
        format!("{}-{at}", self.tag)
    }

    pub fn address(&self, at: usize) -> Ipv4Addr {
        let last = u8::try_from(at + 1).expect("there are at most 200 nodes");
        Ipv4Addr::new(10, self.subnet[0], self.subnet[1], last)
    }

    /// Our own address.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.subnet[0], self.subnet[1], 254)
    }

    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        let (name, address) = (self.name(from), self.address(to).to_string());
        self.cuts().push((from, to));
        ip(&[
            "-n",
            &name,
            "neigh",
            "replace",
            &address,
            "lladdr",
            NOBODY,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])
    }

    /// All links carry everything again.
    pub fn mend(&self) -> anyhow::Result<()> {
        let cuts = std::mem::take(&mut *self.cuts());
        for (from, to) in cuts {
            let (name, address) = (self.name(from), self.address(to).to_string());
            // One that was cut twice is mended once.
            let _ = ip(&["-n", &name, "neigh", "del", &address, "dev", "eth0"]);
            let shown = show(&["-n", &name, "neigh", "show", &address])?;
            ensure!(
                !shown.contains(NOBODY),
                "the link from node {from} to node {to} stays cut: {shown}"
            );
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }

    fn cuts(&self) -> std::sync::MutexGuard<'_, Vec<(usize, usize)>> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process may make namespaces, a bridge and what joins them; tried.
pub fn are_possible() -> bool {
    rustix::process::geteuid().is_root() && Namespaces::new(1).is_ok()
}

fn free_subnet(seed: u32) -> anyhow::Result<[u8; 2]> {
    for attempt in 0..SUBNETS_MAX {
        let [_, _, a, b] = seed.wrapping_add(attempt * 257).to_be_bytes();
        let subnet = [128 + a % 100, b];
        let range = format!("10.{}.{}.0/24", subnet[0], subnet[1]);
        if show(&["-4", "route", "show", &range])?.trim().is_empty() {
            return Ok(subnet);
        }
    }
    bail!("{SUBNETS_MAX} subnets of 10.0.0.0/8 were looked at, and all are in use");
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    show(arguments).map(drop)
}

fn show(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run ip (of iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {} ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
