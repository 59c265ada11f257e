//! The picture of a network: what is drawn ([`model`]), where ([`layout`]), and how ([`svg`], [`page`], [`text`]).

pub mod layout;
pub mod model;
pub mod page;
pub mod svg;
pub mod text;
