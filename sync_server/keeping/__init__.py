"""What a server begins with, and begins again with: its folder, its kits, its backups."""
