"""Tests of the content service, and how other tests make items with it."""
