//! `mgctl` as a shell script sees it: arguments in; output, messages and exit code out.

mod basics;
mod cluster;
mod export;
mod import;
mod run;
mod snapshot;
mod verbs;
