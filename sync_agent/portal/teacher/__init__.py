"""What a teacher's device adds: teaching, who reads the work, sign-in of a class, watched folders."""
