"""What an office does: spaces, people, invitations, enrolment, rights; for the server and a head teacher's device."""
