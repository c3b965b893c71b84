// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Checkpoints of the audit log: append-only, one root per size
/// @notice The signed message is Checkpoint(uint64 size,bytes32 root): by the log key (required)
/// and by members of Participants (welcome). Anyone may submit. The same checkpoint again is
/// harmless: it changes nothing, except that co-signers who had not signed it before are noted.
interface IAuditAnchor {
    /// @notice A checkpoint was anchored, or gained co-signers. `cosignatures` counts those of
    /// this submission.
    event CheckpointAnchored(uint64 indexed size, bytes32 root, uint256 cosignatures);

    /// @notice The log key or the participants contract was not given.
    error AnchorIncomplete();

    /// @notice The log key did not sign this checkpoint.
    error NotTheLogKey();

    /// @notice The log had `latest` leaves already; a log only grows.
    error SizeShrinks(uint64 size, uint64 latest);

    /// @notice Another root was anchored for this size.
    error SecondRoot(uint64 size, bytes32 anchored);

    /// @notice An empty log has no checkpoint.
    error SizeZero();

    /// @notice The co-signer is not a member now, or the signature is not valid.
    error NotAMember(address cosigner);

    /// @notice Co-signatures are not in strictly ascending order of their signers.
    error SignersNotAscending();

    /// @notice Anchor a checkpoint.
    function anchor(
        uint64 size,
        bytes32 root,
        bytes calldata logSignature,
        bytes[] calldata cosignatures
    ) external;

    /// @notice The newest checkpoint; size 0 before the first.
    function latest() external view returns (uint64 size, bytes32 root);

    /// @notice The largest size that a participant's key has co-signed. It never shrinks, since
    /// no checkpoint below the newest is taken.
    function lastCosigned(address cosigner) external view returns (uint64 size);
}
