// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ParticipantStatus} from "./Types.sol";

/// @title Which hospitals' keys take part
/// @notice There is no owner. Signed messages are Admit(address participant),
/// Rotate(address from,address to), Replace(address from,address to) and
/// Retire(address participant); several signatures come in strictly ascending order of their
/// signers' addresses, which makes them distinct. Anyone may submit. No message can be used twice,
/// since each needs a key in a state that it ends.
interface IParticipants {
    /// @notice A key became a member: a founder, or admitted by members.
    event ParticipantAdmitted(address indexed participant);

    /// @notice A member moved to another key, signed by the old one.
    event ParticipantRotated(address indexed from, address indexed to);

    /// @notice A lost key was replaced by the other members.
    event ParticipantReplaced(address indexed from, address indexed to);

    /// @notice A member left for good.
    event ParticipantRetired(address indexed participant);

    /// @notice A deployment without founders, or a message while no member is left.
    error NoMembers();

    /// @notice The zero address cannot take part.
    error ZeroParticipant();

    /// @notice This key is or was a participant; a key joins once.
    error AlreadyKnown(address participant);

    /// @notice The key is not a member now.
    error NotAMember(address participant);

    /// @notice The signature is missing, malleated, or not by this key.
    error NotSignedBy(address participant);

    /// @notice Fewer signatures than the message needs.
    error TooFewSignatures(uint256 given, uint256 needed);

    /// @notice Signatures are not in strictly ascending order of their signers.
    error SignersNotAscending();

    /// @notice Admit a newcomer: min(2, members) members sign Admit.
    function admit(address participant, bytes[] calldata signatures) external;

    /// @notice Move a membership: the old and the new key sign Rotate.
    function rotate(
        address from,
        address to,
        bytes calldata oldSignature,
        bytes calldata newSignature
    ) external;

    /// @notice Replace a lost key: more than half of the other members and at least two, and the
    /// new key, sign Replace.
    function replace(
        address from,
        address to,
        bytes[] calldata signatures,
        bytes calldata newSignature
    ) external;

    /// @notice End a membership: the member signs Retire.
    function retire(address participant, bytes calldata signature) external;

    /// @notice A key's state.
    function statusOf(address participant) external view returns (ParticipantStatus);

    /// @notice How many members there are.
    function members() external view returns (uint256);
}
