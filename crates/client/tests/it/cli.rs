//! `mgctl` as a shell script sees it: arguments in; output, messages and exit code out.

mod basics;
mod export;
mod import;
mod run;
mod verbs;
