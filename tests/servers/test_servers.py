def test_up(s3_server, http_server):
    s3_server.put("b-ucket", "k", b"1")
    http_server.put("", "k", b"1")
