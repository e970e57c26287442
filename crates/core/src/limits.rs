//! The bounds of everything a caller can send. Each is checked where the input arrives, and again
//! by `apply` where a command that breaks it could harm the state.

/// UTF-8 bytes of one experience's content.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// UTF-8 bytes of a namespace, team, agent, session, domain or relation name.
pub const NAME_BYTES_MAX: usize = 256;

/// Metadata entries of one experience.
pub const METADATA_ENTRIES_MAX: usize = 64;

/// UTF-8 bytes of all metadata keys and values of one experience together.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// UTF-8 bytes of one metadata key.
pub const METADATA_KEY_BYTES_MAX: usize = 256;

/// Links of one experience.
pub const LINKS_MAX: usize = 64;

/// UTF-8 bytes of the reason given with feedback or a forget.
pub const REASON_BYTES_MAX: usize = 1024;

/// Experiences in one `Learn` command. With the largest contents this is still below
/// [`COMMAND_BYTES_MAX`] only for ordinary texts; the byte bound is checked too.
pub const BATCH_MAX: usize = 256;

/// Encoded bytes of one command, and so of one log entry.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Windows of one embedding. Prose of 64 KiB has some 14,000 word pieces (four to five bytes each):
/// 119 windows of 150 pieces, each 118 after the one before. At worst every byte is a piece; then
/// windows of 250 pieces, 218 apart, cover all: (65,536 - 250) / 218 rounded up, and the first.
pub const WINDOWS_MAX: usize = 301;

/// Token states of one embedding, over all its windows: 1,024 × 48 bytes are 48 KiB.
pub const STATES_MAX: usize = 1024;

/// UTF-8 bytes of a query text.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Namespaces that one recall may ask.
pub const RECALL_NAMESPACES_MAX: usize = 16;

/// Results of one recall.
pub const RECALL_LIMIT_MAX: usize = 1000;

/// Memories in one page of a list.
pub const PAGE_MAX: usize = 1000;

/// The earliest time accepted: 1970-01-01T00:00:00Z, in Unix milliseconds.
pub const TIME_MS_MIN: i64 = 0;

/// The latest time accepted: 9999-12-31T23:59:59.999Z, in Unix milliseconds.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// Log positions for which the answer to a request id is remembered. An id whose `after` lies
/// further back is refused, never run again.
pub const REQUEST_WINDOW_POSITIONS: u64 = 1_000_000;

/// Archived memories that one memory may have taken in. More of the same lesson stay beside it.
pub const MERGED_MAX: usize = 256;

/// Memories of narrower scopes that may be shared as one. Each is the same lesson of another agent or team.
pub const SHARINGS_MAX: usize = 64;

/// Memories that one merge may take in.
pub const MERGE_MAX: usize = 32;

/// Steps of one `Consolidate` command, so that no entry holds the log up for long.
pub const STEPS_MAX: usize = 64;

/// Uses in one `CountUses` command.
pub const USES_MAX: usize = 1024;

/// Replacements that are followed from an archived memory. Each is one merge of what was merged before.
pub const REPLACEMENTS_MAX: usize = 64;

/// Consolidation can be undone for 90 days.
pub const EPOCHS_KEPT_MS: i64 = 90 * 24 * 3600 * 1000;

/// Memories that one memory may be found to contradict. More are not noted.
pub const CONFLICTS_MAX: usize = 64;

/// What changed a memory is kept for 90 days …
pub const HISTORY_KEPT_MS: i64 = EPOCHS_KEPT_MS;

/// … and of one memory at most this often: some 11 changes a day over those 90 days.
pub const HISTORY_MAX: usize = 1000;
