//! Which server a call goes to. No clock, no network: times and what was heard are handed in.
//!
//! Until a cluster says who its members are, the endpoints that were configured are used as they
//! come: the first that answers, until it does not. After that
//!
//! - a write goes to the leader, else to any member, which forwards it;
//! - reads are spread over the members by how many calls each has open;
//! - a server that fails is set aside, longer each time, until it answers again;
//! - an address that was only heard of carries no call before it answered, so one that cannot be
//!   reached from here costs no call anything;
//! - a server of another cluster carries none at all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::transport::Endpoint;

use super::Server;
use crate::{cluster::Members, error::Trouble};

/// Members that a client follows, at most: as many as there can be endpoints.
const MEMBERS_MAX: usize = super::super::settings::ENDPOINTS_MAX;

/// Servers asked about the members at once, at most.
const ASKED_MAX: usize = 8;

/// How often the members are asked for while a client is in use.
const EVERY: Duration = Duration::from_secs(5);

/// … where there is but one.
const EVERY_OF_ONE: Duration = Duration::from_secs(30);

/// … of a server that does not know such a question, or is of another cluster.
const EVERY_IN_VAIN: Duration = Duration::from_secs(60);

/// Between two rounds of questions, at least, however many calls fail; doubled while nobody is known
/// to lead.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// For how long a server is set aside after its first failure; doubled for each further one.
const ASIDE_FIRST: Duration = Duration::from_millis(250);
const ASIDE_MAX: Duration = Duration::from_secs(5);

/// What a call wants of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Purpose {
    Read,
    Write,
}

pub(in super::super) enum Choice<S> {
    Ask(S),
    /// Every server that there is has failed since the last wait.
    AllTried,
    /// Every server is of another cluster than the one that this client has seen.
    AllForeign,
}

/// What a server said when asked about the members.
pub(super) enum Answer {
    Members(Members),
    /// It knows no such question: a server from before there was one.
    Plain,
    /// It is there and cannot tell now.
    Unsure,
    None,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// It is worth trying again at once what failed before.
    pub(super) is_better: bool,
    /// The server turned out to be of another cluster.
    pub(super) is_foreign: bool,
}

pub(super) struct Table {
    entries: Vec<Entry>,
    /// Place of the endpoint in use while no members are known.
    current: usize,
    view: Option<View>,
    cluster_id: Option<u128>,
    /// Counts choices, so that servers that are equal take turns.
    turn: usize,
    next_id: u64,
    ask_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// Whether the last thing that was heard is in doubt: ask several, and soon.
    in_doubt: bool,
    pause: Duration,
}

struct Entry {
    server: Arc<Server>,
    is_seed: bool,
    /// Who answered there last.
    node_id: Option<String>,
    /// Different nodes answered there, as behind a load balancer: it stands for none of them.
    is_shared: bool,
    /// Answered the last time that it was asked, or is an endpoint that was never asked.
    is_sound: bool,
    was_sound: bool,
    is_foreign: bool,
    is_plain: bool,
    failures: u32,
    /// Carries no call before, if there is another.
    aside_until: Option<Instant>,
    /// Is not asked about the members before.
    ask_at: Option<Instant>,
}

/// The members as they were last heard of.
struct View {
    members: Members,
    /// Node id of the leader, unless it turned out not to lead.
    leader: Option<String>,
}

/// How good a server is for a call; the lower the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Leader,
    Voter,
    /// A learner, a member that is about to be stopped, an endpoint that stands for no member.
    Other,
}

impl Table {
    /// `seeds` is not empty.
    pub(super) fn new(seeds: Vec<Endpoint>) -> Self {
        assert!(!seeds.is_empty(), "settings without endpoints are refused");
        let mut table = Self {
            entries: Vec::new(),
            current: 0,
            view: None,
            cluster_id: None,
            turn: 0,
            next_id: 0,
            ask_at: None,
            asked_at: None,
            in_doubt: false,
            pause: PAUSE_MIN,
        };
        for endpoint in seeds {
            table.add(endpoint, true);
        }
        table
    }

    fn add(&mut self, endpoint: Endpoint, is_seed: bool) {
        let server = Arc::new(Server::new(self.next_id, endpoint));
        self.next_id += 1;
        self.entries.push(Entry {
            server,
            is_seed,
            node_id: None,
            is_shared: false,
            is_sound: is_seed,
            was_sound: is_seed,
            is_foreign: false,
            is_plain: false,
            failures: 0,
            aside_until: None,
            ask_at: None,
        });
    }

    pub(super) fn is_following(&self) -> bool {
        self.view.is_some()
    }

    pub(super) fn are_several(&self) -> bool {
        let members = self.view.as_ref().map_or(0, |v| v.members.members.len());
        self.entries.len().max(members) > 1
    }

    pub(super) fn know_cluster(&mut self, cluster_id: u128) {
        self.cluster_id.get_or_insert(cluster_id);
    }

    /// Begins anew with the endpoints that were configured.
    pub(super) fn reset(&mut self) {
        self.cluster_id = None;
        self.view = None;
        self.entries.retain(|e| e.is_seed);
        self.current %= self.entries.len();
        for entry in &mut self.entries {
            entry.is_foreign = false;
            entry.node_id = None;
            entry.ask_at = None;
        }
        self.ask_at = None;
    }

    pub(super) fn choose(
        &mut self,
        purpose: Purpose,
        tried: &[u64],
        now: Instant,
    ) -> Choice<Arc<Server>> {
        self.turn = self.turn.wrapping_add(1);
        let chosen = if self.is_following() {
            self.choose_member(purpose, tried, now)
        } else {
            self.choose_endpoint(tried)
        };
        match chosen {
            Some(server) => Choice::Ask(server),
            None if !self.entries.iter().any(|e| e.was_sound && !e.is_foreign) => {
                Choice::AllForeign
            }
            None => Choice::AllTried,
        }
    }

    fn choose_endpoint(&self, tried: &[u64]) -> Option<Arc<Server>> {
        let count = self.entries.len();
        (0..count)
            .map(|step| &self.entries[(self.current + step) % count])
            .find(|e| !e.is_foreign && !tried.contains(&e.server.id))
            .map(|e| Arc::clone(&e.server))
    }

    fn choose_member(&self, purpose: Purpose, tried: &[u64], now: Instant) -> Option<Arc<Server>> {
        let count = self.entries.len();
        let places = || (0..count).map(|step| (self.turn + step) % count);
        let mut usable = places()
            .filter(|at| self.entries[*at].is_usable(now))
            .peekable();
        if usable.peek().is_some() {
            // Of equals, the first in turn: `min_by_key` keeps the first of several.
            return usable
                .map(|at| &self.entries[at])
                .filter(|e| !tried.contains(&e.server.id))
                .min_by_key(|e| (self.rank(e, purpose), e.server.in_flight()))
                .map(|e| Arc::clone(&e.server));
        }
        // Nothing is known to work: whatever worked before, the one first that failed least lately.
        places()
            .map(|at| &self.entries[at])
            .filter(|e| e.was_sound && !e.is_foreign && !tried.contains(&e.server.id))
            .min_by_key(|e| e.aside_until)
            .map(|e| Arc::clone(&e.server))
    }

    fn rank(&self, entry: &Entry, purpose: Purpose) -> Rank {
        let Some(view) = &self.view else {
            return Rank::Other;
        };
        let member = entry
            .node_id
            .as_ref()
            .filter(|_| !entry.is_shared)
            .and_then(|id| view.members.members.iter().find(|m| m.node_id == *id));
        match member {
            Some(member) if member.is_draining => Rank::Other,
            Some(member)
                if purpose == Purpose::Write && view.leader.as_ref() == Some(&member.node_id) =>
            {
                Rank::Leader
            }
            Some(member) if member.is_voter => Rank::Voter,
            Some(_) | None => Rank::Other,
        }
    }

    pub(super) fn answered(&mut self, id: u64) {
        if let Some(entry) = self.entry(id) {
            entry.is_well();
        }
    }

    pub(super) fn failed(&mut self, id: u64, purpose: Purpose, trouble: Trouble, now: Instant) {
        let Some(at) = self.entries.iter().position(|e| e.server.id == id) else {
            return;
        };
        if !self.is_following() && at == self.current {
            self.current = (at + 1) % self.entries.len();
        }
        let entry = &mut self.entries[at];
        // One that takes no write may well serve reads, and forwards as soon as it can.
        if (purpose, trouble) != (Purpose::Write, Trouble::Unavailable) {
            entry.set_aside(now);
        }
        if trouble == Trouble::Unreachable {
            entry.is_sound = false;
        }
        if let Some(view) = &mut self.view
            && purpose == Purpose::Write
            && view.leader.is_some()
            && view.leader == entry.node_id
        {
            view.leader = None;
        }
        self.in_doubt = true;
        self.ask_at = Some(now);
    }

    /// Whom to ask about the members now; nobody if it is not the time.
    pub(super) fn ask(&mut self, now: Instant) -> Vec<Arc<Server>> {
        let is_time = self.ask_at.is_none_or(|at| at <= now)
            && self.asked_at.is_none_or(|at| at + self.pause <= now);
        if !is_time {
            return Vec::new();
        }
        self.asked_at = Some(now);
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let due = |e: &&Entry| e.ask_at.is_none_or(|at| at <= now);
        // All of which too little is known, and one of the others in turn.
        let (known, mut asked): (Vec<&Entry>, Vec<&Entry>) = (self.entries.iter())
            .filter(due)
            .partition(|e| e.is_known() && !in_doubt);
        if !known.is_empty() {
            asked.push(known[self.turn % known.len()]);
        }
        // The first endpoint that answers says which cluster it is, whichever others are faster.
        let is_first = self.cluster_id.is_none() && self.view.is_none();
        asked.truncate(if is_first { 1 } else { ASKED_MAX });
        asked.iter().map(|e| Arc::clone(&e.server)).collect()
    }

    /// Takes in what a server said. `endpoint` makes an endpoint of an address, if it is one.
    pub(super) fn hear(
        &mut self,
        id: u64,
        answer: Answer,
        now: Instant,
        endpoint: impl Fn(&str) -> Option<Endpoint>,
    ) -> Heard {
        let known = self.cluster_id;
        let Some(entry) = self.entry(id) else {
            return Heard::default();
        };
        let was_sound = std::mem::replace(&mut entry.is_sound, !matches!(answer, Answer::None));
        let back = Heard {
            is_better: !was_sound && entry.is_sound,
            is_foreign: false,
        };
        let members = match answer {
            Answer::Members(members) => members,
            Answer::Plain => {
                entry.is_well();
                entry.is_plain = true;
                entry.ask_at = Some(now + EVERY_IN_VAIN);
                return back;
            }
            Answer::Unsure => {
                entry.was_sound = true;
                entry.set_aside(now);
                entry.ask_at = entry.aside_until;
                return back;
            }
            Answer::None => {
                entry.set_aside(now);
                entry.ask_at = entry.aside_until;
                return back;
            }
        };
        entry.is_well();
        if known.is_some_and(|known| known != members.cluster_id) {
            entry.ask_at = Some(now + EVERY_IN_VAIN);
            let was_foreign = std::mem::replace(&mut entry.is_foreign, true);
            return Heard {
                is_better: false,
                is_foreign: !was_foreign,
            };
        }
        entry.is_foreign = false;
        entry.is_plain = false;
        entry.ask_at = None;
        let before = entry.node_id.replace(members.node_id.clone());
        entry.is_shared |= before.is_some_and(|before| before != members.node_id);
        self.cluster_id = Some(members.cluster_id);
        let leader = |table: &Self| table.view.as_ref().and_then(|v| v.leader.clone());
        let leader_before = leader(self);
        self.adopt(members, endpoint);
        let leader = leader(self);
        Heard {
            is_better: back.is_better || leader.is_some() && leader != leader_before,
            is_foreign: false,
        }
    }

    /// Follows these members, unless others are known that are newer.
    fn adopt(&mut self, mut members: Members, endpoint: impl Fn(&str) -> Option<Endpoint>) {
        let known = self.view.as_ref();
        if known.is_some_and(|view| members.term < view.members.term) {
            return;
        }
        members.members.truncate(MEMBERS_MAX);
        let mut leader = members.leader().map(|m| m.node_id.clone());
        if leader.is_none() {
            // Only a term that somebody leads makes what others say old news.
            members.term = known.map_or(0, |view| view.members.term);
            leader = known.and_then(|view| view.leader.clone());
        }
        for member in &members.members {
            let url = format!("http://{}", member.client_address);
            let is_there = self.entries.iter().any(|e| {
                e.server.address == url
                    || !e.is_shared && e.node_id.as_ref() == Some(&member.node_id)
            });
            if !member.client_address.is_empty()
                && !is_there
                && let Some(endpoint) = endpoint(&url)
            {
                self.add(endpoint, false);
            }
        }
        let is_address = |e: &Entry| {
            members
                .members
                .iter()
                .any(|m| e.server.address.strip_prefix("http://") == Some(&m.client_address))
        };
        self.entries.retain(|e| e.is_seed || is_address(e));
        self.current %= self.entries.len();
        self.view = Some(View { members, leader });
    }

    /// Says when the next questions are due: after some time, or (true) as soon as may be.
    pub(super) fn asked(&mut self, now: Instant) -> bool {
        let is_led = self.is_led(now);
        self.pause = if is_led {
            PAUSE_MIN
        } else {
            self.pause.saturating_mul(2).min(PAUSE_MAX)
        };
        self.in_doubt |= !is_led;
        let is_new = |e: &Entry| !e.is_known() && e.ask_at.is_none();
        if self.in_doubt || self.entries.iter().any(is_new) {
            self.ask_at = Some(now);
            return true;
        }
        let every = match &self.view {
            None => EVERY_IN_VAIN,
            Some(view) if view.members.members.len() > 1 || self.entries.len() > 1 => EVERY,
            Some(_) => EVERY_OF_ONE,
        };
        // Those that worked once are asked as soon as their time aside is over.
        let back = (self.entries.iter())
            .filter(|e| e.was_sound && !e.is_sound)
            .filter_map(|e| e.ask_at)
            .min();
        self.ask_at = Some(back.map_or(now + every, |at| at.min(now + every)));
        false
    }

    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether the leader is known and can be asked; or cannot be reached from here, or nobody says
    /// who it is, so that asking more would not help.
    fn is_led(&self, now: Instant) -> bool {
        let Some(view) = &self.view else {
            return true;
        };
        let Some(leader) = &view.leader else {
            return false;
        };
        (self.entries.iter())
            .find(|e| e.node_id.as_ref() == Some(leader) && !e.is_shared)
            .is_none_or(|e| e.is_usable(now))
    }

    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| e.server.id == id)
    }
}

impl Entry {
    fn is_usable(&self, now: Instant) -> bool {
        self.is_sound && !self.is_foreign && self.aside_until.is_none_or(|until| until <= now)
    }

    /// Whether it works and has said who it is.
    fn is_known(&self) -> bool {
        self.is_sound && (self.node_id.is_some() || self.is_plain) && !self.is_foreign
    }

    fn is_well(&mut self) {
        self.is_sound = true;
        self.was_sound = true;
        self.failures = 0;
        self.aside_until = None;
    }

    fn set_aside(&mut self, now: Instant) {
        let longer = ASIDE_FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.aside_until = Some(now + longer.min(ASIDE_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Member;

    /// A table, a time that a test moves, and names for what comes out.
    struct Setting {
        table: Table,
        now: Instant,
    }

    fn endpoint(address: &str) -> Option<Endpoint> {
        Endpoint::from_shared(address.to_owned()).ok()
    }

    fn setting(seeds: &[&str]) -> Setting {
        let seeds = seeds.iter().map(|s| endpoint(&format!("http://{s}:1")));
        Setting {
            table: Table::new(seeds.map(Option::unwrap).collect()),
            now: Instant::now(),
        }
    }

    /// Members `a` and so on; an upper-case letter leads, `!` after one drains, `'` is a learner.
    fn members(answers: &str, term: u64, all: &str) -> Answer {
        let member = |text: &str| {
            let id = text[..1].to_lowercase();
            Member {
                client_address: format!("{id}:1"),
                peer_address: format!("{id}:2"),
                is_leader: text[..1] != id,
                is_draining: text.ends_with('!'),
                is_voter: !text.ends_with('\''),
                node_id: id,
            }
        };
        Answer::Members(Members {
            cluster_id: 7,
            term,
            members: all.split(' ').map(member).collect(),
            node_id: answers.to_owned(),
        })
    }

    impl Setting {
        fn id(&self, name: &str) -> u64 {
            let address = format!("http://{name}:1");
            let is_it = |e: &&Entry| e.server.address == address;
            self.table.entries.iter().find(is_it).unwrap().server.id
        }

        fn name(server: &Server) -> String {
            let host = server.address.strip_prefix("http://").unwrap();
            host.strip_suffix(":1").unwrap().to_owned()
        }

        fn hears(&mut self, at: &str, answer: Answer) -> Heard {
            self.table.hear(self.id(at), answer, self.now, endpoint)
        }

        fn fails(&mut self, at: &str, purpose: Purpose, trouble: Trouble) {
            self.table.failed(self.id(at), purpose, trouble, self.now);
        }

        /// Where calls go that fail everywhere, in turn, until all were tried.
        fn order(&mut self, purpose: Purpose) -> String {
            let (mut tried, mut names) = (Vec::new(), Vec::new());
            loop {
                match self.table.choose(purpose, &tried, self.now) {
                    Choice::Ask(server) => {
                        tried.push(server.id);
                        names.push(Self::name(&server));
                    }
                    Choice::AllTried => return names.join(" "),
                    Choice::AllForeign => return "foreign".to_owned(),
                }
            }
        }

        fn sorted(&mut self, purpose: Purpose) -> String {
            let order = self.order(purpose);
            let mut names: Vec<&str> = order.split(' ').collect();
            names.sort_unstable();
            names.join(" ")
        }

        /// Who is asked about the members now.
        fn asks(&mut self) -> String {
            let asked = self.table.ask(self.now);
            let names: Vec<String> = asked.iter().map(|s| Self::name(s)).collect();
            names.join(" ")
        }

        fn after(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }
    }

    /// Three members that were all heard, of which `a` leads.
    fn three() -> Setting {
        let mut setting = setting(&["a"]);
        assert_eq!(setting.asks(), "a");
        setting.hears("a", members("a", 1, "A b c"));
        setting.hears("b", members("b", 1, "A b c"));
        setting.hears("c", members("c", 1, "A b c"));
        setting.table.asked(setting.now);
        setting
    }

    #[test]
    fn without_members_the_endpoints_are_used_in_their_order() {
        let mut setting = setting(&["a", "b", "c"]);
        assert_eq!(setting.order(Purpose::Read), "a b c");
        assert_eq!(setting.order(Purpose::Write), "a b c");
        setting.fails("a", Purpose::Read, Trouble::Unavailable);
        // Another call that failed there at the same time.
        setting.fails("a", Purpose::Write, Trouble::Unreachable);
        assert_eq!(setting.order(Purpose::Read), "b c a");
        setting.fails("b", Purpose::Read, Trouble::Unavailable);
        setting.fails("c", Purpose::Read, Trouble::Unavailable);
        assert_eq!(setting.order(Purpose::Read), "a b c");
    }

    #[test]
    fn an_address_that_was_only_heard_of_carries_no_call() {
        let mut setting = setting(&["a"]);
        setting.hears("a", members("a", 1, "a B c"));
        assert_eq!(setting.order(Purpose::Write), "a");
        setting.hears("b", Answer::None);
        assert_eq!(setting.order(Purpose::Write), "a");
        // Not even when nothing else works.
        setting.fails("a", Purpose::Read, Trouble::Unreachable);
        assert_eq!(setting.order(Purpose::Write), "a");
        setting.hears("b", members("b", 1, "a B c"));
        assert_eq!(setting.order(Purpose::Write), "b");
    }

    #[test]
    fn a_write_goes_to_the_leader_first_and_to_one_that_drains_last() {
        let mut setting = three();
        assert!(setting.order(Purpose::Write).starts_with("a "));
        setting.hears("b", members("b", 2, "a! B c"));
        assert_eq!(setting.order(Purpose::Write), "b c a");
        setting.hears("c", members("c", 3, "a' b! C"));
        assert!(setting.order(Purpose::Write).starts_with("c "));
        assert!(setting.order(Purpose::Read).starts_with("c "));
    }

    #[test]
    fn what_is_older_is_not_believed() {
        let mut setting = three();
        setting.hears("b", members("b", 3, "a B c"));
        setting.hears("a", members("a", 1, "A b c"));
        assert!(setting.order(Purpose::Write).starts_with("b "));
        // One that has not heard who leads, in its own newer term, makes nothing old.
        setting.hears("c", members("c", 9, "a b c"));
        assert!(setting.order(Purpose::Write).starts_with("b "));
        setting.hears("a", members("a", 4, "a b C"));
        assert!(setting.order(Purpose::Write).starts_with("c "));
    }

    #[test]
    fn reads_take_turns_and_prefer_the_idle() {
        let mut setting = three();
        let mut first = Vec::new();
        for _ in 0..6 {
            let Choice::Ask(server) = setting.table.choose(Purpose::Read, &[], setting.now) else {
                panic!("there are three");
            };
            first.push(Setting::name(&server));
        }
        first.sort_unstable();
        assert_eq!(first.concat(), "aabbcc");
        let Choice::Ask(busy) = setting.table.choose(Purpose::Read, &[], setting.now) else {
            panic!("there are three");
        };
        let busy = super::super::Asked::new(busy);
        for _ in 0..6 {
            let Choice::Ask(server) = setting.table.choose(Purpose::Read, &[], setting.now) else {
                panic!("there are three");
            };
            assert_ne!(server.id, busy.server.id);
        }
    }

    #[test]
    fn one_that_fails_is_set_aside_until_it_answers() {
        let mut setting = three();
        setting.fails("b", Purpose::Read, Trouble::Unreachable);
        assert_eq!(setting.sorted(Purpose::Read), "a c");
        assert_eq!(setting.after(PAUSE_MIN).asks(), "a b c");
        setting.hears("b", Answer::None);
        setting.hears("a", members("a", 1, "A b c"));
        setting.table.asked(setting.now);
        assert_eq!(setting.asks(), "", "not so soon");
        assert_eq!(setting.after(ASIDE_MAX).sorted(Purpose::Read), "a c");
        assert!(setting.asks().contains('b'));
        assert!(setting.hears("b", members("b", 1, "A b c")).is_better);
        assert_eq!(setting.sorted(Purpose::Read), "a b c");
        // One that is there and cannot say who the members are, as while it starts, is spared as well.
        assert_eq!(setting.hears("b", Answer::Unsure), Heard::default());
        assert_eq!(setting.sorted(Purpose::Read), "a c");
        assert!(
            !setting.hears("b", members("b", 1, "A b c")).is_better,
            "it never was away"
        );
        // One that only says that it cannot now is spared reads for a moment, without a question.
        setting.fails("c", Purpose::Read, Trouble::Unavailable);
        assert_eq!(setting.sorted(Purpose::Read), "a b");
        assert_eq!(setting.after(ASIDE_FIRST).sorted(Purpose::Read), "a b c");
        // When nothing is known to work, all that ever did is tried.
        for name in ["a", "b", "c"] {
            setting.fails(name, Purpose::Write, Trouble::Unreachable);
        }
        assert_eq!(setting.sorted(Purpose::Write), "a b c");
    }

    #[test]
    fn a_leader_that_is_none_is_not_asked_first_again() {
        let mut setting = three();
        setting.fails("a", Purpose::Write, Trouble::Unavailable);
        setting.table.turn = 0;
        let first: std::collections::BTreeSet<String> = (0..6)
            .map(|_| setting.order(Purpose::Write)[..1].to_owned())
            .collect();
        assert_eq!(first.len(), 3, "any of them hands it on");
        // All are asked, soon and again, until somebody leads.
        assert_eq!(setting.after(PAUSE_MIN).asks(), "a b c");
        assert!(!setting.hears("b", members("b", 1, "a b c")).is_better);
        assert!(setting.table.asked(setting.now));
        assert_eq!(setting.table.pause(), 2 * PAUSE_MIN);
        assert_eq!(setting.after(2 * PAUSE_MIN).asks(), "a b c");
        assert!(setting.hears("b", members("b", 2, "a b C")).is_better);
        assert!(!setting.table.asked(setting.now));
    }

    #[test]
    fn the_first_endpoint_that_answers_says_which_cluster_it_is() {
        let mut setting = setting(&["a", "b", "c"]);
        assert_eq!(setting.asks(), "a");
        setting.hears("a", Answer::None);
        assert!(setting.table.asked(setting.now));
        assert_eq!(setting.after(PAUSE_MIN).asks(), "b");
        setting.hears("b", members("b", 1, "a B c"));
        assert!(setting.table.asked(setting.now));
        assert_eq!(setting.after(ASIDE_FIRST).asks(), "a c b");
    }

    #[test]
    fn a_load_balancer_stands_for_no_member() {
        let mut setting = setting(&["lb"]);
        setting.hears("lb", members("a", 1, "A b c"));
        setting.hears("b", members("b", 1, "A b c"));
        assert!(setting.order(Purpose::Write).starts_with("lb "));
        setting.hears("lb", members("c", 1, "A b c"));
        setting.hears("a", members("a", 1, "A b c"));
        assert_eq!(setting.order(Purpose::Write), "a b lb");
    }

    #[test]
    fn another_cluster_is_noticed_and_left_alone() {
        let mut setting = three();
        setting.table.add(endpoint("http://x:1").unwrap(), true);
        let Answer::Members(mut other) = members("x", 9, "X") else {
            panic!("these are members");
        };
        other.cluster_id = 8;
        assert!(
            setting
                .hears("x", Answer::Members(other.clone()))
                .is_foreign
        );
        assert!(
            !setting
                .hears("x", Answer::Members(other.clone()))
                .is_foreign,
            "it is said once"
        );
        assert_eq!(setting.sorted(Purpose::Read), "a b c");
        for name in ["a", "b", "c"] {
            let answer = Answer::Members(other.clone());
            assert!(setting.hears(name, answer).is_foreign);
        }
        assert_eq!(setting.order(Purpose::Write), "foreign");
        setting.table.reset();
        assert_eq!(setting.sorted(Purpose::Write), "a x");
    }

    #[test]
    fn questions_are_few_when_all_is_well() {
        let mut setting = three();
        assert_eq!(setting.asks(), "");
        assert_eq!(setting.after(EVERY).asks().len(), 1);
        let mut one = self::setting(&["a"]);
        assert_eq!(one.asks(), "a");
        one.hears("a", members("a", 1, "A"));
        assert!(!one.table.asked(one.now));
        assert_eq!(one.after(EVERY).asks(), "");
        assert_eq!(one.after(EVERY_OF_ONE).asks(), "a");
        let mut plain = self::setting(&["a"]);
        plain.asks();
        plain.hears("a", Answer::Plain);
        assert!(!plain.table.asked(plain.now));
        assert_eq!(plain.after(EVERY_OF_ONE).asks(), "");
        plain.fails("a", Purpose::Read, Trouble::Unavailable);
        assert_eq!(plain.asks(), "", "it would say the same again");
        assert_eq!(plain.after(EVERY_IN_VAIN).asks(), "a");
    }
}
