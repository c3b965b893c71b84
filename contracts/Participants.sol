// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deployment} from "./Deployment.sol";
import {IParticipants} from "./IParticipants.sol";
import {ParticipantStatus} from "./Types.sol";

/// @title Hospitals' keys: founders by constructor, everything later by signatures
contract Participants is IParticipants, Deployment {
    bytes32 private constant _ADMIT = keccak256("Admit(address participant)");
    bytes32 private constant _ROTATE = keccak256("Rotate(address from,address to)");
    bytes32 private constant _REPLACE = keccak256("Replace(address from,address to)");
    bytes32 private constant _RETIRE = keccak256("Retire(address participant)");

    mapping(address participant => ParticipantStatus) private _status;

    /// @inheritdoc IParticipants
    uint256 public members;

    constructor(bytes32 deploymentId_, address[] memory founders) Deployment(deploymentId_) {
        if (founders.length == 0) revert NoMembers();
        for (uint256 i = 0; i < founders.length; ++i) {
            _join(founders[i]);
            emit ParticipantAdmitted(founders[i]);
        }
    }

    /// @inheritdoc IParticipants
    function admit(address participant, bytes[] calldata signatures) external {
        if (members == 0) revert NoMembers();
        _requireMembersSigned(
            keccak256(abi.encode(_ADMIT, participant)),
            signatures,
            members < 2 ? members : 2
        );
        _join(participant);
        emit ParticipantAdmitted(participant);
    }

    /// @inheritdoc IParticipants
    function rotate(
        address from,
        address to,
        bytes calldata oldSignature,
        bytes calldata newSignature
    ) external {
        bytes32 message = keccak256(abi.encode(_ROTATE, from, to));
        _requireSignedBy(from, message, oldSignature);
        _requireSignedBy(to, message, newSignature);
        _leave(from);
        _join(to);
        emit ParticipantRotated(from, to);
    }

    /// @inheritdoc IParticipants
    function replace(
        address from,
        address to,
        bytes[] calldata signatures,
        bytes calldata newSignature
    ) external {
        bytes32 message = keccak256(abi.encode(_REPLACE, from, to));
        _requireSignedBy(to, message, newSignature);
        _leave(from);
        uint256 majority = members / 2 + 1;
        _requireMembersSigned(message, signatures, majority < 2 ? 2 : majority);
        _join(to);
        emit ParticipantReplaced(from, to);
    }

    /// @inheritdoc IParticipants
    function retire(address participant, bytes calldata signature) external {
        _requireSignedBy(participant, keccak256(abi.encode(_RETIRE, participant)), signature);
        _leave(participant);
        emit ParticipantRetired(participant);
    }

    /// @inheritdoc IParticipants
    function statusOf(address participant) external view returns (ParticipantStatus) {
        return _status[participant];
    }

    function _join(address participant) private {
        if (participant == address(0)) revert ZeroParticipant();
        if (_status[participant] != ParticipantStatus.None) revert AlreadyKnown(participant);
        _status[participant] = ParticipantStatus.Member;
        ++members;
    }

    function _leave(address participant) private {
        if (_status[participant] != ParticipantStatus.Member) revert NotAMember(participant);
        _status[participant] = ParticipantStatus.Retired;
        --members;
    }

    function _requireSignedBy(
        address participant,
        bytes32 message,
        bytes calldata signature
    ) private view {
        address signer = _signerOf(message, signature);
        if (signer == address(0) || signer != participant) revert NotSignedBy(participant);
    }

    /// @dev Ascending signers are distinct signers.
    function _requireMembersSigned(
        bytes32 message,
        bytes[] calldata signatures,
        uint256 needed
    ) private view {
        if (signatures.length < needed) revert TooFewSignatures(signatures.length, needed);
        address last = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = _signerOf(message, signatures[i]);
            if (_status[signer] != ParticipantStatus.Member) revert NotAMember(signer);
            if (signer <= last) revert SignersNotAscending();
            last = signer;
        }
    }
}
