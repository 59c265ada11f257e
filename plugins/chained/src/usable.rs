//! Whether the kernel's nf_tables can be used here: for STATUS.

use cni::error::{Code, Error};
use kernel::nft::Nft;

/// Code 50 when it can't, since no ADD would succeed.
pub(crate) fn nftables() -> Result<Nft, Error> {
    let opened = Nft::open().and_then(|mut nft| nft.generation().map(|_| nft));
    opened.map_err(|err| Error::new(Code::NotAvailable, format!("nftables can't be used: {err}")))
}
