pub mod embedding;
pub mod limits;
