// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ConsentId, ConsentStatus, Item} from "./Types.sol";

/// @title What the chain keeps of consents: that one was given, until when, and that it ended
/// @notice Signed messages are Grant(bytes32 commitment,uint32 untilDay) and
/// Withdraw(bytes32 commitment,uint32 untilDay), signed by the item's consent key. Whoever holds a
/// signed message may submit it. Stored state depends neither on block time nor on the order or
/// grouping of submissions. "Recorded" means the event for an id, never a transaction's status.
interface IConsentLedger {
    /// @notice The consent is active from here on.
    event Granted(ConsentId indexed id);

    /// @notice The consent has ended for good, or was ended before it began.
    event Withdrawn(ConsentId indexed id);

    /// @notice An item of a batch was skipped; `reason` is the selector of the error that a single
    /// submission would have met.
    event ItemRejected(uint256 index, ConsentId id, bytes4 reason);

    /// @notice The recovered signer is not the consent key that the item names.
    error NotTheConsentKey(ConsentId id);

    /// @notice This consent is already active.
    error AlreadyActive(ConsentId id);

    /// @notice This consent was withdrawn; Withdrawn is final.
    error AlreadyWithdrawn(ConsentId id);

    /// @notice Record a grant: None -> Active.
    function grant(Item calldata item) external;

    /// @notice Record a withdrawal: Active -> Withdrawn, or None -> Withdrawn (a tombstone).
    function withdraw(Item calldata item) external;

    /// @notice Record grants; items that would revert are skipped and reported.
    function grantBatch(Item[] calldata items) external;

    /// @notice Record withdrawals; items that would revert are skipped and reported.
    function withdrawBatch(Item[] calldata items) external;

    /// @notice State and last day; the day is 0 unless the consent is active.
    function statusOf(ConsentId id) external view returns (ConsentStatus status, uint32 untilDay);

    /// @notice Whether the consent is active and `day` is not after its last day.
    function inForce(ConsentId id, uint32 day) external view returns (bool);
}
