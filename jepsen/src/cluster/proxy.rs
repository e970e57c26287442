//! Stands between the members and carries their bytes, late, twice delayed, out of order or not at
//! all.
//!
//! ```text
//! member A ─▶ listener of B ─▶ who is it? ─▶ frames ─▶ conditions of A→B ─▶ member B
//!          ◀────────────────────────────────── conditions of B→A ◀─ frames ◀─
//! ```
//!
//! Bytes of a cut link wait, as they would in the sender's retransmission queue; a new connection
//! over one waits for its first answer. *Loss* is what TCP makes of it: the lost part comes after a
//! retransmission timeout, and all behind it waits. *Reordering* is what TCP does not undo: the data
//! of one call overtakes that of another.

mod frames;

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use self::frames::{Frame, Frames};

/// Frames that are read ahead of what may pass; beyond, the sender's window closes.
const FRAMES_AHEAD_MAX: usize = 64;

/// TCP's first retransmission timeout on a fast link; it doubles each time.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A part that was lost so often gets through.
const LOSSES_MAX: u32 = 4;

/// Data that other calls may overtake is held so long, at most.
const OVERTAKING_MS_MAX: u64 = 80;

/// A member that does not accept within this time is taken for down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What happens to bytes from one member to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing gets through.
    pub is_cut: bool,
    /// Every frame comes later by up to so much.
    pub delay_ms_max: u64,
    /// Share of the frames that are lost, again and again, and sent anew.
    pub loss_percent: u8,
    /// Share of the data frames that others overtake.
    pub overtaken_percent: u8,
}

/// The state of all links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    links: Vec<Vec<Link>>,
}

impl Conditions {
    /// All links carry everything at once.
    pub fn new(nodes: usize) -> Self {
        Self {
            links: vec![vec![Link::default(); nodes]; nodes],
        }
    }

    pub fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from][to]
    }

    /// Every link between two different nodes.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut().flatten()
    }

    fn of(&self, way: Way) -> Link {
        self.links[way.from][way.to]
    }
}

/// What happened on one link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames and connections that waited because it was cut.
    pub held: u64,
    pub delayed: u64,
    pub lost: u64,
    /// Frames that were overtaken by others.
    pub overtaken: u64,
}

#[derive(Debug, Default)]
struct Counters {
    held: AtomicU64,
    delayed: AtomicU64,
    lost: AtomicU64,
    overtaken: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    from: usize,
    to: usize,
}

impl Way {
    fn back(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

/// How the proxy finds out which member a connection comes from.
#[derive(Clone, Debug)]
pub enum Sources {
    /// Each member has an address of its own.
    Addresses(BTreeMap<IpAddr, usize>),
    /// All have the same: the kernel says whose socket it is.
    Owners(Arc<Mutex<Vec<Option<u32>>>>),
}

impl Sources {
    pub fn by_address(addresses: impl Iterator<Item = IpAddr>) -> Self {
        Self::Addresses(addresses.enumerate().map(|(at, ip)| (ip, at)).collect())
    }

    pub fn by_owner(nodes: usize) -> Self {
        Self::Owners(Arc::new(Mutex::new(vec![None; nodes])))
    }

    fn find(&self, peer: SocketAddr, here: SocketAddr) -> Option<usize> {
        match self {
            Self::Addresses(members) => members.get(&peer.ip()).copied(),
            Self::Owners(owners) => {
                let owners = owners
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let inode = socket_inode(peer.port(), here.port())?;
                (0..owners.len()).find(|at| owners[*at].is_some_and(|id| holds(id, &inode)))
            }
        }
    }
}

struct Shared {
    conditions: watch::Sender<Conditions>,
    counters: Vec<Vec<Counters>>,
    sources: Sources,
}

/// Running listeners, one for each member; ended when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Proxy {
    /// Listens on `host` for each of `targets`.
    pub async fn new(
        host: IpAddr,
        targets: &[SocketAddr],
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let nodes = targets.len();
        let (conditions, _) = watch::channel(Conditions::new(nodes));
        let row = || (0..nodes).map(|_| Counters::default()).collect();
        let shared = Arc::new(Shared {
            conditions,
            counters: (0..nodes).map(|_| row()).collect(),
            sources,
        });
        let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
        for (to, target) in targets.iter().enumerate() {
            let listener = TcpListener::bind((host, 0)).await.context("listen")?;
            addresses.push(listener.local_addr().context("listen")?);
            tasks.push(tokio::spawn(accept(
                Arc::clone(&shared),
                listener,
                to,
                *target,
            )));
        }
        Ok(Self {
            shared,
            addresses,
            tasks,
        })
    }

    /// Where members are told to reach each other, in order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The process that runs node `at` now.
    pub fn belongs(&self, at: usize, process: Option<u32>) {
        if let Sources::Owners(owners) = &self.shared.sources {
            owners.lock().unwrap_or_else(PoisonError::into_inner)[at] = process;
        }
    }

    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.shared.conditions.send_modify(change);
    }

    pub fn counts(&self, from: usize, to: usize) -> Counts {
        let counters = &self.shared.counters[from][to];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            held: read(&counters.held),
            delayed: read(&counters.delayed),
            lost: read(&counters.lost),
            overtaken: read(&counters.overtaken),
        }
    }

    /// Over all links.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for from in 0..self.addresses.len() {
            for to in 0..self.addresses.len() {
                let counts = self.counts(from, to);
                total.held += counts.held;
                total.delayed += counts.delayed;
                total.lost += counts.lost;
                total.overtaken += counts.overtaken;
            }
        }
        total
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, to: usize, target: SocketAddr) {
    loop {
        let Ok((incoming, peer)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // One that ended before it was looked at has no owner, and nothing to say.
            let Some(from) = incoming
                .local_addr()
                .ok()
                .and_then(|here| shared.sources.find(peer, here))
            else {
                return;
            };
            // A connection that breaks is what members have to live with.
            let _ = carry(&shared, incoming, Way { from, to }, target).await;
        });
    }
}

async fn carry(
    shared: &Arc<Shared>,
    incoming: TcpStream,
    way: Way,
    target: SocketAddr,
) -> io::Result<()> {
    pass(shared, way).await;
    pass(shared, way.back()).await;
    let outgoing = timeout(CONNECT_TIMEOUT, TcpStream::connect(target))
        .await
        .map_err(io::Error::from)??;
    incoming.set_nodelay(true)?;
    outgoing.set_nodelay(true)?;
    let (from_client, to_client) = incoming.into_split();
    let (from_server, to_server) = outgoing.into_split();
    let there = pump(shared, way, Frames::of_client(from_client), to_server);
    let back = pump(
        shared,
        way.back(),
        Frames::of_server(from_server),
        to_client,
    );
    // Either end that goes takes the other along: half a connection is of no use to gRPC.
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}

/// Waits while the link is cut.
async fn pass(shared: &Shared, way: Way) -> Link {
    let mut conditions = shared.conditions.subscribe();
    let link = conditions.borrow_and_update().of(way);
    if !link.is_cut {
        return link;
    }
    shared.counters[way.from][way.to]
        .held
        .fetch_add(1, Ordering::Relaxed);
    match conditions.wait_for(|c| !c.of(way).is_cut).await {
        Ok(conditions) => conditions.of(way),
        // The proxy ends: whoever waits is aborted or of no interest.
        Err(_) => Link::default(),
    }
}

async fn pump<R, W>(
    shared: &Arc<Shared>,
    way: Way,
    mut frames: Frames<R>,
    mut writer: W,
) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin,
{
    let (sender, mut arrived) = mpsc::channel::<(Instant, Frame)>(FRAMES_AHEAD_MAX);
    let read = async move {
        // A connection that breaks ends like one that is closed: behind what came before.
        while let Ok(Some(frame)) = frames.next().await {
            if sender.send((Instant::now(), frame)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let write = async {
        let mut random = StdRng::from_os_rng();
        let mut waiting = Waiting::default();
        loop {
            let next = match waiting.earliest() {
                Some(at) => tokio::select! {
                    next = arrived.recv() => next.map(Some),
                    () = sleep_until(at) => Some(None),
                },
                None => arrived.recv().await.map(Some),
            };
            let Some(next) = next else {
                pass(shared, way).await;
                waiting.write_all(&mut writer).await?;
                return writer.shutdown().await;
            };
            let link = pass(shared, way).await;
            let Some((at, frame)) = next else {
                waiting.write_due(&mut writer).await?;
                continue;
            };
            let counters = &shared.counters[way.from][way.to];
            let late = lateness(link, &mut random, counters);
            if late > Duration::ZERO {
                sleep_until(at + late).await;
                pass(shared, way).await;
            }
            let can_wait = frame.can_wait();
            let is_chosen = random.random_range(0..100) < link.overtaken_percent;
            if can_wait && (waiting.has(frame.stream) || is_chosen) {
                let hold = Duration::from_millis(random.random_range(1..=OVERTAKING_MS_MAX));
                waiting.hold(frame, Instant::now() + hold);
                continue;
            }
            // Headers and ends of a stream come after its data.
            waiting.write_stream(frame.stream, &mut writer).await?;
            let overtaken = waiting.len();
            counters.overtaken.fetch_add(overtaken, Ordering::Relaxed);
            writer.write_all(&frame.bytes).await?;
        }
    };
    tokio::try_join!(read, write).map(drop)
}

fn lateness(link: Link, random: &mut StdRng, counters: &Counters) -> Duration {
    let mut late = Duration::ZERO;
    if link.delay_ms_max > 0 {
        late += Duration::from_millis(random.random_range(0..=link.delay_ms_max));
        counters.delayed.fetch_add(1, Ordering::Relaxed);
    }
    let mut losses = 0;
    while losses < LOSSES_MAX && random.random_range(0..100) < link.loss_percent {
        late += RETRANSMISSION * 2_u32.pow(losses);
        losses += 1;
        counters.lost.fetch_add(1, Ordering::Relaxed);
    }
    late
}

/// Data frames that others may overtake, by stream.
#[derive(Default)]
struct Waiting {
    streams: BTreeMap<u32, VecDeque<(Instant, Frame)>>,
}

impl Waiting {
    fn earliest(&self) -> Option<Instant> {
        let first = |frames: &VecDeque<(Instant, Frame)>| frames.front().map(|(at, _)| *at);
        self.streams.values().filter_map(first).min()
    }

    fn has(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    fn len(&self) -> u64 {
        self.streams
            .values()
            .map(|frames| frames.len() as u64)
            .sum()
    }

    fn hold(&mut self, frame: Frame, until: Instant) {
        let frames = self.streams.entry(frame.stream).or_default();
        frames.push_back((until, frame));
    }

    async fn write_due(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let now = Instant::now();
        let is_due =
            |frames: &VecDeque<(Instant, Frame)>| frames.front().is_some_and(|f| f.0 <= now);
        let due: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, frames)| is_due(frames))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in due {
            self.write_stream(stream, writer).await?;
        }
        Ok(())
    }

    async fn write_stream(
        &mut self,
        stream: u32,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        for (_, frame) in self.streams.remove(&stream).into_iter().flatten() {
            writer.write_all(&frame.bytes).await?;
        }
        Ok(())
    }

    async fn write_all(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let streams: Vec<u32> = self.streams.keys().copied().collect();
        for stream in streams {
            self.write_stream(stream, writer).await?;
        }
        Ok(())
    }
}

/// The inode of the socket that is bound to `local` and connected to `remote`, both on loopback.
fn socket_inode(local: u16, remote: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&local) && fields.get(2)?.ends_with(&remote);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

fn holds(process: u32, inode: &str) -> bool {
    let expected = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == expected.as_str())
    })
}
