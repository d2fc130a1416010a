//! Netlink, as much of it as is needed: attributes, batches of requests, and sockets that send them.
//!
//! The kernel works on a request inside `sendmsg`, so that every answer is waiting when it returns. Nothing
//! here waits, and nothing would be gained by an asynchronous connection: what blocks is the kernel's work. For the same
//! reason no request asks for an acknowledgement: no complaint is success.

mod attribute;
mod socket;

pub(crate) use attribute::{Attributes, Writer, text};
pub(crate) use socket::{Batch, Failure, Socket};

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;
