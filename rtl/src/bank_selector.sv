// Read data of one port of all banks to the word that was asked for: one of four banks in every region, then one of the
// regions. Two cycles.
module bank_selector #(
    parameter int unsigned WIDTH       = 256,
    parameter int unsigned REGIONS     = 3,
    parameter int unsigned REGION_BITS = 2
) (
    input  logic                               clk,
    input  logic [REGIONS-1:0][3:0][WIDTH-1:0] data,
    input  logic [1:0]                         bank,
    input  logic [REGION_BITS-1:0]             region,
    output logic [WIDTH-1:0]                   selected
);

  logic [REGIONS-1:0][WIDTH-1:0] candidates;
  logic [REGION_BITS-1:0] region_held;

  always_ff @(posedge clk) begin
    for (int r = 0; r < REGIONS; r++) candidates[r] <= data[r][bank];
    region_held <= region;
    selected <= candidates[REGIONS-1];
    for (int r = 0; r < REGIONS - 1; r++) begin
      if (region_held == REGION_BITS'(r)) selected <= candidates[r];
    end
  end

endmodule
