// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deployment} from "./Deployment.sol";
import {IAuditAnchor} from "./IAuditAnchor.sol";
import {IParticipants} from "./IParticipants.sol";
import {ParticipantStatus} from "./Types.sol";

/// @title Keeps the newest checkpoint; the earlier ones are events
contract AuditAnchor is IAuditAnchor, Deployment {
    bytes32 private constant _CHECKPOINT = keccak256("Checkpoint(uint64 size,bytes32 root)");

    /// @notice The key of the log; fixed for a deployment.
    address public immutable logKey;

    /// @notice Whose members may co-sign.
    IParticipants public immutable participants;

    uint64 private _size;
    bytes32 private _root;

    /// @inheritdoc IAuditAnchor
    mapping(address cosigner => uint64 size) public lastCosigned;

    constructor(
        bytes32 deploymentId_,
        address logKey_,
        IParticipants participants_
    ) Deployment(deploymentId_) {
        if (logKey_ == address(0) || address(participants_) == address(0)) {
            revert AnchorIncomplete();
        }
        logKey = logKey_;
        participants = participants_;
    }

    /// @inheritdoc IAuditAnchor
    function anchor(
        uint64 size,
        bytes32 root,
        bytes calldata logSignature,
        bytes[] calldata cosignatures
    ) external {
        bytes32 message = keccak256(abi.encode(_CHECKPOINT, size, root));
        if (_signerOf(message, logSignature) != logKey) revert NotTheLogKey();
        if (size == 0) revert SizeZero();
        if (size < _size) revert SizeShrinks(size, _size);
        bool known = size == _size;
        if (known && root != _root) revert SecondRoot(size, _root);

        bool gained = _noteCosigners(message, size, cosignatures);
        if (known && !gained) return;
        if (!known) {
            _size = size;
            _root = root;
        }
        emit CheckpointAnchored(size, root, cosignatures.length);
    }

    /// @inheritdoc IAuditAnchor
    function latest() external view returns (uint64 size, bytes32 root) {
        return (_size, _root);
    }

    /// @dev Returns whether a co-signer had not signed this size before.
    function _noteCosigners(
        bytes32 message,
        uint64 size,
        bytes[] calldata cosignatures
    ) private returns (bool gained) {
        address last = address(0);
        for (uint256 i = 0; i < cosignatures.length; ++i) {
            address signer = _signerOf(message, cosignatures[i]);
            if (participants.statusOf(signer) != ParticipantStatus.Member) {
                revert NotAMember(signer);
            }
            if (signer <= last) revert SignersNotAscending();
            last = signer;
            if (lastCosigned[signer] < size) {
                lastCosigned[signer] = size;
                gained = true;
            }
        }
    }
}
