"""What two or more services need, one purpose a module; nothing here knows a service."""
